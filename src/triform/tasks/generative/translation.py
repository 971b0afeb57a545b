"""Translation into another language."""

from dataclasses import dataclass

from triform.errors import InputError
from triform.tasks.generative.text2text_generation import Text2TextGeneration, Text2TextGenerationOptions
from triform.tasks.options import option


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationOptions(Text2TextGenerationOptions):
    """Options of translation."""

    src_lang: str | None = option(None, "Language of the input, for a model of several: en, de, fr …")
    tgt_lang: str | None = option(None, "Language of the answer.")


class Translation(Text2TextGeneration):
    """Answers `{translation_text}` for a text.

    A model of several languages names their prefixes in config.json, under `task_specific_params`.
    """

    name = "translation"
    summary = "Each text in another language."
    example = "The house is wonderful."
    options_type = TranslationOptions
    key = "translation_text"

    def prefix(self, options: TranslationOptions) -> str:
        """The prefix for the pair of languages, for a model that names such prefixes."""
        prefixes = {name: own for name, own in self.prefixes().items() if name.startswith("translation_")}
        wanted = self.task_name(options)
        if wanted in prefixes:
            return prefixes[wanted]
        if prefixes or options.src_lang or options.tgt_lang:
            pairs = [name.removeprefix("translation_").replace("_to_", " to ") for name in prefixes]
            raise InputError(
                f"src_lang={options.src_lang!r}, tgt_lang={options.tgt_lang!r}: the model names "
                f"{', '.join(pairs) or 'no languages'}. Choose a pair of those, or set prefix yourself."
            )
        return super().prefix(options)

    def task_name(self, options: TranslationOptions) -> str:
        return f"translation_{options.src_lang}_to_{options.tgt_lang}"
