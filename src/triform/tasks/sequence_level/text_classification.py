"""A label for a text, or for a pair of texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from triform import spec
from triform.inputs import Batch, EncodedText
from triform.tasks.options import option
from triform.tasks.probabilities import Numbers, sigmoid, softmax
from triform.tasks.task import Rows
from triform.tasks.text_task import TextOptions, TextTask, dropped_from, read_texts


class Function(StrEnum):
    """The function from logits to scores."""

    DEFAULT = "default"
    """As the model was trained: softmax where one label holds, sigmoid where several may, none for regression."""
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextClassificationOptions(TextOptions):
    """Options of text-classification."""

    top_k: int | None = option(0, "How many labels to list, the best first; 0 gives the best one alone.", minimum=0)
    function_to_apply: Function = option(Function.DEFAULT, "What turns logits into scores.")


class TextClassification(TextTask[Rows, Any]):
    """Answers `{label, score}`, or a list of them where `top_k` is set (None: all labels)."""

    name = "text-classification"
    summary = "A label for each text, such as its sentiment."
    example = "What a fine day."
    options_type = TextClassificationOptions
    head = spec.SequenceHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def preprocess(self, inputs: Sequence[Any], options: TextClassificationOptions) -> Batch:
        return self.encode(read_texts(inputs), options)

    def forward(self, batch: Batch, options: TextClassificationOptions) -> Rows:
        return self.logits(batch)

    def postprocess(self, batch: Batch, tensors: Rows, options: TextClassificationOptions) -> list[Any]:
        head = self.model.spec.head
        assert isinstance(head, spec.SequenceHead)
        scores = self._function(head, options)(tensors)
        # By the logits: far from 0 a sigmoid or a softmax is the same for several labels.
        order = np.argsort(-tensors, axis=-1, kind="stable")
        answers = [
            [{"label": head.labels[label], "score": float(row[label]), **dropped_from(text)} for label in best.tolist()]
            for text, row, best in zip(batch.sources_of(EncodedText), scores, order, strict=True)
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
