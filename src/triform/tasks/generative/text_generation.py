"""A text that goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triform import spec
from triform.generation.config import MAX_NEW_TOKENS
from triform.inputs import Batch, EncodedText, LongInput
from triform.tasks.generative.options import GenerationOptions
from triform.tasks.task import Task, dropped_from, option


@dataclass(frozen=True, kw_only=True, slots=True)
class TextGenerationOptions(GenerationOptions):
    """Options of text-generation."""

    return_full_text: bool = option(True, "Whether the answer begins with the prompt.")
    num_return_sequences: int = option(1, "Answers to each prompt, when drawing or with beams.", minimum=1)
    stop: str | Sequence[str] | None = option(None, "What is added ends before the first of these texts.")


class TextGeneration(Task[list[list[int]], list[dict[str, Any]]]):
    """Answers `[{generated_text}]` for a prompt, as many as `num_return_sequences` says."""

    name = "text-generation"
    summary = "Goes on where each text ends."
    example = "Once upon a time"
    options_type = TextGenerationOptions
    head = spec.LanguageHead
    forms = (spec.Decoder,)

    def preprocess(self, inputs: Sequence[str], options: TextGenerationOptions) -> Batch:
        # What stands last is what the model goes on from, so a prompt is cut at its beginning.
        room = None if options.long_input is LongInput.ERROR else self._room_for_prompts(options)
        return self.encode(list(inputs), options, max_length=room, side="left")

    def forward(self, batch: Batch, options: TextGenerationOptions) -> list[list[int]]:
        return self.model.generate(batch, num_return_sequences=options.num_return_sequences, **options.settings())

    def postprocess(
        self, batch: Batch, tensors: list[list[int]], options: TextGenerationOptions
    ) -> list[list[dict[str, Any]]]:
        assert batch.texts is not None
        count = options.num_return_sequences
        return [
            [
                {"generated_text": self._continued(text, ids, options), **dropped_from(text)}
                for ids in tensors[first : first + count]
            ]
            for first, text in zip(range(0, len(tensors), count), batch.texts, strict=True)
        ]

    def _room_for_prompts(self, options: TextGenerationOptions) -> int | None:
        """The most tokens of a prompt beside the new ones; unless these are counted, at least half of the context."""
        limit = self.limit()
        if limit is None:
            return None
        if options.max_new_tokens is None:
            return max(limit - MAX_NEW_TOKENS, limit // 2)
        return max(limit - options.max_new_tokens, 1)

    def _continued(self, text: EncodedText, ids: list[int], options: TextGenerationOptions) -> str:
        # A lone token may decode otherwise than behind its neighbours, so prompt and answer are decoded together.
        prompt = self.tokenizer.decode(text.ids.tolist())
        added = self.tokenizer.decode([*text.ids.tolist(), *ids])[len(prompt) :]
        stops = [options.stop] if isinstance(options.stop, str) else options.stop or ()
        ends = [added.find(stop) for stop in stops if stop in added]
        added = added[: min(ends, default=len(added))]
        return text.text + added if options.return_full_text else added
