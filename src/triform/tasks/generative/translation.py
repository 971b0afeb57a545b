"""A text in another language."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triform import spec
from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks.generative.options import GenerationOptions
from triform.tasks.task import Task, option


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationOptions(GenerationOptions):
    """Options of translation."""

    src_lang: str | None = option(None, "Language of the input, for a model of several: en, de, fr …")
    tgt_lang: str | None = option(None, "Language of the answer.")
    prefix: str | None = option(None, "Text to put before each input, in place of the one the model brings.")


class Translation(Task[list[list[int]], dict[str, str]]):
    """Answers `{translation_text}` for a text.

    A model of several languages names their prefixes in config.json, under `task_specific_params`.
    """

    name = "translation"
    summary = "Each text in another language."
    example = "The house is wonderful."
    options_type = TranslationOptions
    head = spec.LanguageHead
    forms = (spec.EncoderDecoder,)

    def preprocess(self, inputs: Sequence[str], options: TranslationOptions) -> Batch:
        prefix = self._prefix(options)
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {text!r}.")
        return self.encode([prefix + text for text in inputs], options)

    def forward(self, batch: Batch, options: TranslationOptions) -> list[list[int]]:
        return self.model.generate(batch, num_return_sequences=1, **options.settings())

    def postprocess(self, batch: Batch, tensors: list[list[int]], options: TranslationOptions) -> list[dict[str, str]]:
        return [{"translation_text": self.tokenizer.decode(ids)} for ids in tensors]

    def one(self, given: Any, answer: dict[str, str], options: TranslationOptions) -> list[dict[str, str]]:
        return [answer]

    def _prefix(self, options: TranslationOptions) -> str:
        if options.prefix is not None:
            return options.prefix
        params = self.model.blueprint.config.get("task_specific_params") or {}
        prefixes = {name: own.get("prefix", "") for name, own in params.items() if name.startswith("translation_")}
        wanted = f"translation_{options.src_lang}_to_{options.tgt_lang}"
        if wanted in prefixes:
            return str(prefixes[wanted])
        if prefixes or options.src_lang or options.tgt_lang:
            pairs = [name.removeprefix("translation_").replace("_to_", " to ") for name in prefixes]
            raise InputError(
                f"src_lang={options.src_lang!r}, tgt_lang={options.tgt_lang!r}: the model names "
                f"{', '.join(pairs) or 'no languages'}. Choose a pair of those, or set prefix yourself."
            )
        return str(self.model.blueprint.config.get("prefix") or "")
