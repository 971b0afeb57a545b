"""A vector for each token, as the backbone leaves it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.inputs import Batch
from triform.models import Output
from triform.tasks.task import Options, Task
from triform.tasks.text_input import read_texts


class FeatureExtraction(Task[Output, NDArray[np.float32]]):
    """Answers a float32 array (n, hidden) for a text of n tokens, special ones included; a list of such for a list."""

    name = "feature-extraction"
    summary = "A vector for each token of each text."
    example = "A cat sat on the mat."
    head = None
    forms = (spec.Encoder, spec.Decoder)

    def preprocess(self, inputs: Sequence[Any], options: Options) -> Batch:
        return self.encode(read_texts(inputs), options)

    def forward(self, batch: Batch, options: Options) -> Output:
        return self.model(batch)

    def postprocess(self, batch: Batch, tensors: Output, options: Options) -> list[NDArray[np.float32]]:
        return [self.model.engine.to_numpy(states) for states in tensors.split("last_hidden_state")]
