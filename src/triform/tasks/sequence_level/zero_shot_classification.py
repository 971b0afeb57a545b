"""Classification by labels that the caller names, each a hypothesis to a model of entailment. arXiv:1909.00161."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from triform import spec
from triform.errors import InputError, WrongTaskError, shown
from triform.inputs import Batch, EncodedText, Tokenizer
from triform.model import Model
from triform.tasks.options import option
from triform.tasks.probabilities import softmax
from triform.tasks.task import Rows
from triform.tasks.text_task import TextOptions, TextTask, dropped_from


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroShotClassificationOptions(TextOptions):
    """Options of zero-shot-classification."""

    candidate_labels: str | Sequence[str] | None = option(None, "The labels to choose from.")
    hypothesis_template: str = option("This example is {}.", "What is put to the model; {} stands for a label.")
    multi_label: bool = option(False, "Whether each label is judged by itself, so that several may hold.")


class ZeroShotClassification(TextTask[Rows, dict[str, Any]]):
    """Answers `{sequence, labels, scores}`, the best label first.

    Scores are the probabilities of entailment: among the labels, or with `multi_label` against contradiction.
    """

    name = "zero-shot-classification"
    summary = "Which of the labels you name fits each text; needs a model of entailment (NLI)."
    example = "The match ended in a draw."
    example_options = "--candidate-labels sports --candidate-labels politics"
    options_type = ZeroShotClassificationOptions
    several_sequences = True
    head = spec.SequenceHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        head = model.spec.head
        assert isinstance(head, spec.SequenceHead)
        found = [label for label, name in enumerate(head.labels) if name.lower().startswith("entail")]
        if not found or len(head.labels) == 1:
            raise WrongTaskError(
                f"{model.checkpoint.source} cannot do {self.name}: of its labels, {', '.join(head.labels)}, "
                "none begins with entail beside another. Choose a model of entailment (NLI)."
            )
        self._entailment = found[0]
        # The label at the other end, as in `transformers`.
        self._contradiction = len(head.labels) - 1 if self._entailment == 0 else 0

    def __call__(self, inputs: Any, candidate_labels: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Answer one text, a list of them, or an iterable; labels may be given without their name, as in the field."""
        labels = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(inputs, **labels, **options)

    def check_options(self, options: ZeroShotClassificationOptions) -> None:
        for label in labels_of(options):
            hypothesis(options.hypothesis_template, label)

    def preprocess(self, inputs: Sequence[Any], options: ZeroShotClassificationOptions) -> Batch:
        [text] = inputs
        if not isinstance(text, str):
            raise InputError(f"{self.name}: expected a text, got {shown(text)}.")
        if not text:
            raise InputError(f"{self.name}: the text is empty, so there is nothing to classify. Leave it out.")
        hypotheses = [hypothesis(options.hypothesis_template, label) for label in labels_of(options)]
        # Only the text is cut, never a hypothesis.
        return self.encode([(text, one) for one in hypotheses], options, only_first=True)

    def forward(self, batch: Batch, options: ZeroShotClassificationOptions) -> Rows:
        return self.logits(batch)

    def postprocess(self, batch: Batch, tensors: Rows, options: ZeroShotClassificationOptions) -> list[dict[str, Any]]:
        texts, labels = batch.sources_of(EncodedText), labels_of(options)
        if options.multi_label or len(labels) == 1:
            scores = softmax(tensors[:, [self._contradiction, self._entailment]])[:, 1]
            evidence = np.subtract(tensors[:, self._entailment], tensors[:, self._contradiction], dtype=np.float64)
        else:
            scores = softmax(tensors[:, self._entailment])
            evidence = np.asarray(tensors[:, self._entailment], np.float64)
        # By the evidence: near 1 and 0 a probability is the same for several labels.
        order = np.argsort(-evidence, kind="stable").tolist()
        return [
            {
                "sequence": texts[0].text,
                "labels": [labels[index] for index in order],
                "scores": scores[order].tolist(),
                # The longer a hypothesis, the less of the text stands beside it.
                **dropped_from(max(texts, key=lambda text: text.dropped)),
            }
        ]


def labels_of(options: ZeroShotClassificationOptions) -> list[str]:
    """Read the labels to choose from; a single text is split at commas.

    Raises:
        InputError: labels are missing, or a label is not a text.
    """
    given = options.candidate_labels
    labels = [label.strip() for label in given.split(",") if label.strip()] if isinstance(given, str) else given
    if not labels or not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"candidate_labels={shown(options.candidate_labels)}: expected one or more labels. "
            'Name them, such as candidate_labels=["sports", "politics"].'
        )
    return list(labels)


def hypothesis(template: str, label: str) -> str:
    """Fill a label into the template → the sentence that the model judges.

    Raises:
        InputError: the template has no place for the label, or another one.
    """
    try:
        places = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError:
        places = []
    # Not with a width such as {:>999999999}, which would decide how much memory is spent.
    if places not in ([("", "", None)], [("0", "", None)]):
        raise InputError(f"hypothesis_template={template!r}: expected {{}} once, where the label goes. Write it there.")
    return template.format(label)
