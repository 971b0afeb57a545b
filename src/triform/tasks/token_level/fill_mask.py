"""The best words for a gap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triform import spec
from triform.engines import Integers
from triform.errors import InputError, TokenizerError
from triform.inputs import Batch
from triform.models import Output
from triform.tasks.probabilities import softmax
from triform.tasks.task import Options, Task, option
from triform.tasks.text_input import read_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class FillMaskOptions(Options):
    """Options of fill-mask."""

    top_k: int = option(5, "How many candidates to list for each gap, the best first.", minimum=1)
    targets: Sequence[str] | None = option(None, "Consider these tokens only.")


class FillMask(Task[Output, Any]):
    """Answers `[{score, token, token_str, sequence}]` for a text with one mask token, a list of such for several."""

    name = "fill-mask"
    summary = "The best words for each gap, written as the model's mask token."
    example = "Paris is the [MASK] of France."
    options_type = FillMaskOptions
    head = spec.LanguageHead
    forms = (spec.Encoder,)

    def preprocess(self, inputs: Sequence[Any], options: FillMaskOptions) -> Batch:
        batch = self.encode(read_texts(inputs), options)
        gaps = self._gaps(batch)
        for number, (begin, end) in enumerate(batch.spans.pairs()):
            if not ((begin <= gaps) & (gaps < end)).any():
                raise InputError(f"Text {number} has no {self._mask}: {inputs[number]!r}. Write it where the gap is.")
        return batch

    def forward(self, batch: Batch, options: FillMaskOptions) -> Output:
        return self.model(batch, logits_at=self._gaps(batch))

    def postprocess(self, batch: Batch, tensors: Output, options: FillMaskOptions) -> list[Any]:
        rows = zip(batch.spans.pairs(), tensors.split("logits"), strict=True)
        return [self._answer(batch.ids[begin:end], logits, options) for (begin, end), logits in rows]

    def _answer(self, ids: Integers, logits: Any, options: FillMaskOptions) -> Any:
        probabilities = softmax(self.model.engine.to_numpy(logits))
        gaps = np.flatnonzero(ids == self._mask_id)
        candidates = self._candidates(options.targets, probabilities.shape[-1])
        answers = []
        for gap, scores in zip(gaps.tolist(), probabilities, strict=True):
            best = candidates[np.argsort(-scores[candidates], kind="stable")[: options.top_k]]
            answers.append([self._candidate(ids, gap, int(token), float(scores[token]), len(gaps)) for token in best])
        return answers[0] if len(answers) == 1 else answers

    def _candidate(self, ids: Integers, gap: int, token: int, score: float, num_gaps: int) -> dict[str, Any]:
        filled = ids.copy()
        filled[gap] = token
        return {
            "score": score,
            "token": token,
            "token_str": self.tokenizer.decode([token], skip_special_tokens=False),
            # With further gaps their mask tokens stay in sight.
            "sequence": self.tokenizer.decode(filled.tolist(), skip_special_tokens=num_gaps == 1),
        }

    def _candidates(self, targets: Sequence[str] | None, vocab_size: int) -> Integers:
        if targets is None:
            return np.arange(vocab_size)
        ids = {target: self.tokenizer.id_of(target) for target in targets}
        unknown = [target for target, token in ids.items() if token is None]
        if unknown or not ids:
            raise InputError(
                f"targets: not in the vocabulary: {unknown}. Name whole tokens, as `triform tokenize` shows."
            )
        return np.array(sorted({token for token in ids.values() if token is not None}))

    def _gaps(self, batch: Batch) -> Integers:
        return np.flatnonzero(batch.ids == self._mask_id)

    @property
    def _mask(self) -> str:
        mask = self.tokenizer.special("mask_token")
        if mask is None:
            raise TokenizerError(
                "The tokenizer names no mask_token in tokenizer_config.json, so there is no gap to fill."
            )
        return mask

    @property
    def _mask_id(self) -> int | None:
        return self.tokenizer.id_of(self._mask)
