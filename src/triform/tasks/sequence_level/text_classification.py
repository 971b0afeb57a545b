"""A label for a text, or for a pair of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from triform import spec
from triform.inputs import Batch
from triform.networks import Output
from triform.tasks.probabilities import Numbers, sigmoid, softmax
from triform.tasks.task import Options, Task, dropped_from, option
from triform.tasks.text_input import read_texts


class Function(StrEnum):
    """What turns logits into scores."""

    DEFAULT = "default"
    """What the model was trained with: softmax over one of several labels, sigmoid for each of many, none for
    regression."""
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextClassificationOptions(Options):
    """Options of text-classification."""

    top_k: int | None = option(0, "How many labels to list, the best first; 0 gives the best one alone.", minimum=0)
    function_to_apply: Function = option(Function.DEFAULT, "What turns logits into scores.")


class TextClassification(Task[Output, Any]):
    """Answers `{label, score}`, or a list of them where `top_k` is set (None: all labels)."""

    name = "text-classification"
    summary = "A label for each text, such as its sentiment."
    example = "What a fine day."
    options_type = TextClassificationOptions
    head = spec.SequenceHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def preprocess(self, inputs: Sequence[Any], options: TextClassificationOptions) -> Batch:
        return self.encode(read_texts(inputs), options)

    def forward(self, batch: Batch, options: TextClassificationOptions) -> Output:
        return self.model(batch)

    def postprocess(self, batch: Batch, tensors: Output, options: TextClassificationOptions) -> list[Any]:
        head = self.model.spec.head
        assert isinstance(head, spec.SequenceHead)
        scores = self._function(head, options)(self.model.engine.to_numpy(tensors.logits))
        order = np.argsort(-scores, axis=-1, kind="stable")
        assert batch.texts is not None
        answers = [
            [{"label": head.labels[label], "score": float(row[label]), **dropped_from(text)} for label in best.tolist()]
            for text, row, best in zip(batch.texts, scores, order, strict=True)
        ]
        return [answer[0] if options.top_k == 0 else answer[: options.top_k] for answer in answers]

    def one(self, given: Any, answer: Any, options: TextClassificationOptions) -> Any:
        return [answer] if isinstance(given, str) and options.top_k == 0 else answer

    @staticmethod
    def _function(head: spec.SequenceHead, options: TextClassificationOptions) -> Callable[[Any], Numbers]:
        default = {
            spec.Problem.SINGLE_LABEL: Function.SOFTMAX,
            spec.Problem.MULTI_LABEL: Function.SIGMOID,
            spec.Problem.REGRESSION: Function.NONE,
        }
        chosen = options.function_to_apply
        chosen = default[head.problem] if chosen is Function.DEFAULT else chosen
        functions: dict[Function, Callable[[Any], Numbers]] = {
            Function.SOFTMAX: softmax,
            Function.SIGMOID: sigmoid,
            Function.NONE: np.asarray,
        }
        return functions[chosen]
