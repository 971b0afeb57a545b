"""The best tokens for each gap in a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.engines import Integers
from triform.errors import InputError, TokenizerError
from triform.inputs import Batch, EncodedText, pack_texts, shares_of, whole_texts
from triform.tasks.options import option
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.task import Rows
from triform.tasks.text_task import TextTask, WindowOptions, read_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class FillMaskOptions(WindowOptions):
    """Options of fill-mask."""

    top_k: int = option(5, "How many candidates to list for each gap, the best first.", minimum=1)
    targets: str | Sequence[str] | None = option(None, "Consider this token only, or these.")


class FillMask(TextTask[Rows, Any]):
    """Answers `[{score, token, token_str, sequence}]` for a text with one mask token, a list of such for several.

    A long text is read in windows that overlap, each gap with the most that fits around it.
    """

    name = "fill-mask"
    summary = "The best words for each gap, written as the model's mask token."
    example = "Paris is the [MASK] of France."
    options_type = FillMaskOptions
    head = spec.LanguageHead
    forms = (spec.Encoder,)

    def preprocess(self, inputs: Sequence[Any], options: FillMaskOptions) -> Batch:
        batch = self.encode_windows(read_texts(inputs), options)
        for number, text in enumerate(whole_texts(batch)):
            if self._mask_id not in text.ids:
                raise InputError(f"Text {number} has no {self._mask}: {inputs[number]!r}. Write it where the gap is.")
        gaps = self._gaps(batch)
        # A window without a gap of its own is not read.
        spans = zip(batch.sources_of(EncodedText), batch.spans.pairs(), strict=True)
        return pack_texts([text for text, (begin, end) in spans if gaps[begin:end].any()])

    def forward(self, batch: Batch, options: FillMaskOptions) -> Rows:
        output = self.model(batch, logits_at=np.flatnonzero(self._gaps(batch)))
        logits: Rows = self.model.engine.to_numpy(output.logits)
        return logits

    def num_rows(self, batch: Batch) -> int:
        return int(np.count_nonzero(self._gaps(batch)))

    def postprocess(self, batch: Batch, tensors: Rows, options: FillMaskOptions) -> list[Any]:
        answers = []
        begin = 0
        for text in whole_texts(batch):
            gaps = np.flatnonzero(text.ids == self._mask_id)
            answers.append(self._answer(text.ids, gaps, softmax(tensors[begin : begin + len(gaps)]), options))
            begin += len(gaps)
        return answers

    def _answer(self, ids: Integers, gaps: Integers, probabilities: Numbers, options: FillMaskOptions) -> Any:
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
            # Where the text has other gaps, their mask tokens stay visible.
            "sequence": self.tokenizer.decode(filled.tolist(), skip_special_tokens=num_gaps == 1),
        }

    def _candidates(self, targets: str | Sequence[str] | None, vocab_size: int) -> Integers:
        if targets is None:
            return np.arange(vocab_size)
        targets = [targets] if isinstance(targets, str) else targets
        ids = {target: self.tokenizer.id_of(target) for target in targets}
        unknown = [target for target, token in ids.items() if token is None]
        if unknown or not ids:
            raise InputError(
                f"targets: not in the vocabulary: {unknown}. Name whole tokens, as `triform tokenize` shows."
            )
        return np.array(sorted({token for token in ids.values() if token is not None}))

    def _gaps(self, batch: Batch) -> NDArray[np.bool_]:
        """Mark the rows that are gaps for which their window answers, (T,)."""
        gaps: NDArray[np.bool_] = (batch.ids == self._mask_id) & shares_of(batch)
        return gaps

    @property
    def _mask(self) -> str:
        mask = self.tokenizer.special("mask_token")
        if mask is None:
            raise TokenizerError(
                "The tokenizer names no mask_token in tokenizer_config.json, so the text has nothing to fill."
            )
        return mask

    @property
    def _mask_id(self) -> int | None:
        return self.tokenizer.id_of(self._mask)
