"""A text that goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

from triform import spec
from triform.inputs import Batch
from triform.tasks.task import Options, Task, option


@dataclass(frozen=True, kw_only=True, slots=True)
class TextGenerationOptions(Options):
    """Options of text-generation."""

    max_new_tokens: int | None = option(None, "Most tokens to add; by default as the model says, or 256.", minimum=1)
    return_full_text: bool = option(True, "Whether the answer begins with the prompt.")


class TextGeneration(Task[list[list[int]], list[dict[str, str]]]):
    """Answers `[{generated_text}]` for a prompt."""

    name = "text-generation"
    summary = "Goes on where each text ends."
    example = "Once upon a time"
    options_type = TextGenerationOptions
    head = spec.LanguageHead
    forms = (spec.Decoder,)

    def preprocess(self, inputs: Sequence[str], options: TextGenerationOptions) -> Batch:
        return self.encode(list(inputs), options)

    def forward(self, batch: Batch, options: TextGenerationOptions) -> list[list[int]]:
        return self.model.generate(batch, max_new_tokens=options.max_new_tokens)

    def postprocess(
        self, batch: Batch, tensors: list[list[int]], options: TextGenerationOptions
    ) -> list[list[dict[str, str]]]:
        assert batch.texts is not None
        answers = []
        for text, ids in zip(batch.texts, tensors, strict=True):
            # A lone token may decode otherwise than behind its neighbours, so prompt and answer are decoded together.
            prompt = self.tokenizer.decode(text.ids.tolist())
            added = self.tokenizer.decode([*text.ids.tolist(), *ids])[len(prompt) :]
            answers.append([{"generated_text": text.text + added if options.return_full_text else added}])
        return answers
