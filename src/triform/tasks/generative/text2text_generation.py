"""A text for a text: whatever an encoder-decoder was trained to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from triform import spec
from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks.generative.options import GenerationOptions
from triform.tasks.task import Task, option


@dataclass(frozen=True, kw_only=True, slots=True)
class Text2TextGenerationOptions(GenerationOptions):
    """Options of text2text-generation, and of the tasks that are a kind of it."""

    prefix: str | None = option(None, "Text to put before each input, in place of the one the model brings.")


class Text2TextGeneration(Task[list[list[int]], dict[str, str]]):
    """Answers `{generated_text}` for a text."""

    name = "text2text-generation"
    summary = "Whatever a model of two stacks answers to each text."
    example = "question: Who lived in London? context: Ada lived in London."
    options_type = Text2TextGenerationOptions
    head = spec.LanguageHead
    forms = (spec.EncoderDecoder,)
    key: ClassVar[str] = "generated_text"
    """The field of the answer that holds the text."""

    def preprocess(self, inputs: Sequence[str], options: Text2TextGenerationOptions) -> Batch:
        prefix = self.prefix(options) if options.prefix is None else options.prefix
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {text!r}.")
        return self.encode([prefix + text for text in inputs], options)

    def forward(self, batch: Batch, options: Text2TextGenerationOptions) -> list[list[int]]:
        return self.model.generate(batch, num_return_sequences=1, **options.settings())

    def postprocess(
        self, batch: Batch, tensors: list[list[int]], options: Text2TextGenerationOptions
    ) -> list[dict[str, str]]:
        return [{self.key: self.tokenizer.decode(ids)} for ids in tensors]

    def one(self, given: Any, answer: dict[str, str], options: Text2TextGenerationOptions) -> list[dict[str, str]]:
        return [answer]

    def prefix(self, options: Any) -> str:
        """What the model's config says to put before a text: for this task, or for all."""
        own = self.task_params().get(self.name, {}).get("prefix")
        return str(own or self.model.blueprint.config.get("prefix") or "")

    def task_params(self) -> Mapping[str, Any]:
        """`task_specific_params` of config.json; only their prefixes are followed."""
        return self.model.blueprint.config.get("task_specific_params") or {}
