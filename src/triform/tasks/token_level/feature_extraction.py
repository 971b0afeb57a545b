"""A vector for each token: the last hidden states of the backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.inputs import Batch, LongInput, merge_windows
from triform.tasks.options import option
from triform.tasks.task import Rows
from triform.tasks.text_task import TextTask, WindowOptions, read_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureExtractionOptions(WindowOptions):
    """Options of feature-extraction.

    Long text is refused by default: the vector of a special token, which many take for the whole text's, would only
    have seen a window.
    """

    long_input: LongInput = option(
        LongInput.ERROR,
        "Refuse text longer than the model can read (error), or read it in windows that overlap (window).",
        choices=(LongInput.ERROR, LongInput.WINDOW),
    )


class FeatureExtraction(TextTask[Rows, NDArray[np.float32]]):
    """Answers a float32 array (n, hidden) for a text of n tokens, special ones included; a list of such for a list."""

    name = "feature-extraction"
    summary = "A vector for each token of each text."
    example = "A cat sat on the mat."
    options_type = FeatureExtractionOptions
    head = None
    forms = (spec.Encoder, spec.Decoder)

    def preprocess(self, inputs: Sequence[Any], options: FeatureExtractionOptions) -> Batch:
        return self.encode_windows(read_texts(inputs), options)

    def forward(self, batch: Batch, options: FeatureExtractionOptions) -> Rows:
        states: Rows = self.model.engine.to_numpy(self.model(batch).last_hidden_state)
        return states

    def num_rows(self, batch: Batch) -> int:
        return batch.num_rows

    def postprocess(self, batch: Batch, tensors: Rows, options: FeatureExtractionOptions) -> list[NDArray[np.float32]]:
        """Split the packed rows (T, D) into an array (n, D) for each text."""
        return [states for _, states in merge_windows(batch, tensors)]
