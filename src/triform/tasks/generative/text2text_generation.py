"""A text for a text: the answer that an encoder-decoder was trained to give.

The answers equal the pipelines of transformers 4 where the caller names beams and length. Otherwise the checkpoint's
settings hold, the settings for the task over the general ones; the pipelines take 4 beams and 256 new tokens then, even
where generation_config.json names other beams, or `task_specific_params` another length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from triform import spec
from triform.errors import InputError, shown
from triform.families import Config
from triform.generation import Completion, Request
from triform.generation.config import SETTINGS
from triform.inputs import Batch, EncodedText
from triform.tasks.generative.generative_task import GenerativeTask
from triform.tasks.generative.options import GenerationOptions
from triform.tasks.options import option
from triform.tasks.text_task import dropped_from


@dataclass(frozen=True, kw_only=True, slots=True)
class Text2TextGenerationOptions(GenerationOptions):
    """Options of text2text-generation, summarization and translation."""

    prefix: str | None = option(None, "Text to put before each input, in place of the one the model brings.")
    num_return_sequences: int = option(1, "Answers to each text, when drawing or with beams.", minimum=1)


class Text2TextGeneration(GenerativeTask[Any]):
    """Answers `{generated_text}` for a text, or a list of them where `num_return_sequences` is above 1."""

    name = "text2text-generation"
    summary = "Whatever a model of two stacks answers to each text."
    example = "question: Who lived in London? context: Ada lived in London."
    options_type = Text2TextGenerationOptions
    head = spec.LanguageHead
    forms = (spec.EncoderDecoder,)
    key: ClassVar[str] = "generated_text"
    """The field of the answer that holds the text."""

    def check_options(self, options: Text2TextGenerationOptions) -> None:
        if options.prefix is None:
            self.prefix(options)

    def preprocess(self, inputs: Sequence[str], options: Text2TextGenerationOptions) -> Batch:
        prefix = self.prefix(options) if options.prefix is None else options.prefix
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {shown(text)}.")
        return self.encode([prefix + text for text in inputs], options)

    def requests(self, batch: Batch, options: Text2TextGenerationOptions) -> list[Request]:
        settings = {**self.own_settings(options), **options.settings()}
        return self.model.new_requests(batch, num_return_sequences=options.num_return_sequences, **settings)

    def postprocess(self, batch: Batch, tensors: list[Completion], options: Text2TextGenerationOptions) -> list[Any]:
        count = options.num_return_sequences
        answers = [
            [
                {self.key: self.tokenizer.decode(completion.ids, clean_up=False), **dropped_from(text)}
                for completion in tensors[first : first + count]
            ]
            for first, text in zip(range(0, len(tensors), count), batch.sources_of(EncodedText), strict=True)
        ]
        return [answer[0] if count == 1 else answer for answer in answers]

    def one(self, given: Any, answer: Any, options: Text2TextGenerationOptions) -> Any:
        return [answer] if options.num_return_sequences == 1 else answer

    def prefix(self, options: Any) -> str:
        """The prefix of the model's config for a text: the task's prefix, or else the general one."""
        return self.prefixes().get(self.task_name(options)) or self._config.optional_string("prefix") or ""

    def prefixes(self) -> Mapping[str, str]:
        """Read the prefixes of `task_specific_params` in config.json: task → prefix."""
        where = self._config.where
        return {name: Config(own, where).optional_string("prefix") or "" for name, own in self._task_params().items()}

    def own_settings(self, options: Text2TextGenerationOptions) -> dict[str, Any]:
        """Read the config's settings of generation for this task; the caller's settings override them."""
        own = dict(self._task_params().get(self.task_name(options), {}))
        own.pop("prefix", None)
        if options.num_beams == 1:
            # Settings of beams would be refused.
            of_beams = {name for name, setting in SETTINGS.items() if setting.needs == "num_beams"}
            own = {name: value for name, value in own.items() if name not in of_beams}
        return own

    def task_name(self, options: Any) -> str:
        """The name of the task in config.json."""
        return self.name

    def _task_params(self) -> Mapping[str, Mapping[str, Any]]:
        """Read `task_specific_params` of config.json: task → prefix and settings of generation."""
        params = self._config.mapping("task_specific_params") or {}
        if not all(isinstance(own, dict) for own in params.values()):
            self._config.refuse("task_specific_params", "an object for each task")
        return params

    @property
    def _config(self) -> Config:
        return Config(self.model.blueprint.config, str(self.model.checkpoint.folder / "config.json"))
