"""Ranking of documents by a query, with a cross-encoder that reads both together.

The scores equal the scores of sentence-transformers' CrossEncoder, whose files name the activation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triform import spec
from triform.errors import UnsupportedModelError, WrongTaskError
from triform.families import Config
from triform.hub import Checkpoint
from triform.inputs import Batch, EncodedText, Tokenizer
from triform.model import Model
from triform.tasks.options import option
from triform.tasks.probabilities import Numbers, sigmoid
from triform.tasks.task import Fields, Rows
from triform.tasks.text_task import TextOptions, TextTask, dropped_from, read_object

ACTIVATIONS: dict[str, Callable[[Any], Numbers]] = {"Identity": np.asarray, "Sigmoid": sigmoid}
"""The last part of the name of a torch module → the function."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRankingOptions(TextOptions):
    """Options of text-ranking."""

    top_k: int | None = option(None, "How many documents to list, the best first; by default all.", minimum=1)
    return_documents: bool = option(False, "Whether the answer repeats the documents.")


class TextRanking(TextTask[Rows, list[dict[str, Any]]]):
    """Answers `[{index, score}]`, best first, for `{query, documents}`; with `text` where `return_documents` is set."""

    name = "text-ranking"
    summary = "Documents in the order in which they answer a query."
    example = '{"query": "Where do cats sit?", "documents": ["It rains.", "A cat sat on the mat."]}'
    fields: ClassVar[Fields] = {"query": str, "documents": list[str]}
    options_type = TextRankingOptions
    several_sequences = True
    head = spec.SequenceHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        head = model.spec.head
        assert isinstance(head, spec.SequenceHead)
        if len(head.labels) != 1:
            raise WrongTaskError(
                f"{model.checkpoint.source} cannot do {self.name}: it scores {len(head.labels)} labels, "
                f"{', '.join(head.labels)}; the task needs one score. Choose a reranker, or text-classification."
            )
        self._activation = ACTIVATIONS[read_activation(model.checkpoint)]

    def preprocess(self, inputs: Sequence[Any], options: TextRankingOptions) -> Batch:
        [given] = inputs
        query, documents = read_object(given, self.fields)
        return self.encode([(query, document) for document in documents], options)

    def forward(self, batch: Batch, options: TextRankingOptions) -> Rows:
        return self.logits(batch)

    def postprocess(self, batch: Batch, tensors: Rows, options: TextRankingOptions) -> list[list[dict[str, Any]]]:
        texts = batch.sources_of(EncodedText)
        scores = self._activation(tensors[:, 0])
        answer = []
        for index in np.argsort(-scores, kind="stable")[: options.top_k].tolist():
            text = {"text": texts[index].pair} if options.return_documents else {}
            dropped = dropped_from(texts[index])
            answer.append({"index": index, "score": float(scores[index]), **text, **dropped})
        return [answer]


def read_activation(checkpoint: Checkpoint) -> str:
    """Read the name of the function from the logit to the score: the sigmoid where no file names one.

    Raises:
        UnsupportedModelError: another activation, or a prompt.
    """
    name = "config_sentence_transformers.json"
    config = Config.of_file(checkpoint, "config.json")
    own = Config.of_file(checkpoint, name) if checkpoint.has(name) else Config({}, name)
    if own.optional_string("default_prompt_name"):
        own.refuse("default_prompt_name", "none: Triform ranks without prompts only. Choose a reranker that needs none")
    older = Config(config.mapping("sentence_transformers") or {}, config.where).optional_string("activation_fn")
    oldest = config.optional_string("sbert_ce_default_activation_function")
    path = own.optional_string("activation_fn") or older or oldest or "Sigmoid"
    activation = path.rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: activation {path!r} is not supported; Triform has {', '.join(ACTIVATIONS)}."
        )
    return activation
