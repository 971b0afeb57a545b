"""A text for a text: whatever an encoder-decoder was trained to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from triform import spec
from triform.errors import InputError
from triform.families import Config
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
        return self.prefixes().get(self.name) or self._config.optional_string("prefix") or ""

    def prefixes(self) -> Mapping[str, str]:
        """Those of `task_specific_params` in config.json, by their tasks."""
        config = self._config
        params = config.mapping("task_specific_params") or {}
        if not all(isinstance(own, dict) for own in params.values()):
            config.refuse("task_specific_params", "an object for each task")
        return {name: Config(own, config.where).optional_string("prefix") or "" for name, own in params.items()}

    @property
    def _config(self) -> Config:
        return Config(self.model.blueprint.config, str(self.model.checkpoint.folder / "config.json"))
