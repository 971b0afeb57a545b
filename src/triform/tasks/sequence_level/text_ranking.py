"""Ranking of documents by a query, with a cross-encoder that reads both together.

The scores equal the scores of sentence-transformers' CrossEncoder, whose files name the activation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triform import spec
from triform.errors import UnsupportedModelError, WrongTaskError
from triform.hub import Checkpoint
from triform.inputs import Batch, EncodedText, Tokenizer, pack_texts
from triform.model import Model
from triform.settings import Settings
from triform.tasks.options import option
from triform.tasks.probabilities import Numbers, sigmoid
from triform.tasks.sequence_level.sentence_messages import Messages
from triform.tasks.sequence_level.sentence_settings import MODEL, MODULES, ModelSettings, TransformerSettings
from triform.tasks.sequence_level.sentence_transformers import read_modules, torch_class
from triform.tasks.sequence_level.text_classification import Function
from triform.tasks.task import Fields, Rows
from triform.tasks.text_task import TextOptions, TextTask, dropped_from, read_object

ACTIVATIONS: dict[str, Callable[[Any], Numbers]] = {"Identity": np.asarray, "Sigmoid": sigmoid}
"""Class of torch → the function, which keeps the order of the logits."""
MODEL_TYPE = "CrossEncoder"
OUTPUT = ("logits", "scores")
"""The output of transformers that scores, and its name in sentence-transformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRankingOptions(TextOptions):
    """Options of text-ranking."""

    top_k: int | None = option(None, "How many documents to list, the best first; by default all.", minimum=1)
    return_documents: bool = option(False, "Whether the answer repeats the documents.")
    function_to_apply: Function = option(
        Function.DEFAULT,
        "What turns logits into scores; by default the function that the model's files name.",
        choices=(Function.DEFAULT, Function.SIGMOID, Function.NONE),
    )


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
        own = ACTIVATIONS[read_activation(model.checkpoint)]
        self._functions: dict[Function, Callable[[Any], Numbers]] = {
            Function.DEFAULT: own,
            Function.SIGMOID: sigmoid,
            Function.NONE: np.asarray,
        }
        self._messages = Messages.of_model(model, tokenizer, read_settings(model.checkpoint)[1].messages)

    @classmethod
    def read_processor(cls, model: Model) -> Tokenizer:
        return read_settings(model.checkpoint)[1].read_tokenizer(model.checkpoint)

    def preprocess(self, inputs: Sequence[Any], options: TextRankingOptions) -> Batch:
        [given] = inputs
        query, documents = read_object(given, self.fields)
        if self._messages is not None:
            return pack_texts(self._messages.encode_pairs(query, documents, self.limit()))
        return self.encode([(query, document) for document in documents], options)

    def forward(self, batch: Batch, options: TextRankingOptions) -> Rows:
        return self.logits(batch)

    def postprocess(self, batch: Batch, tensors: Rows, options: TextRankingOptions) -> list[list[dict[str, Any]]]:
        texts = batch.sources_of(EncodedText)
        logits = tensors[:, 0]
        scores = self._functions[options.function_to_apply](logits)
        answer = []
        # By the logits: far from 0 a sigmoid is the same for all.
        for index in np.argsort(-logits, kind="stable")[: options.top_k].tolist():
            text = {"text": texts[index].pair} if options.return_documents else {}
            dropped = dropped_from(texts[index])
            answer.append({"index": index, "score": float(scores[index]), **text, **dropped})
        return [answer]


def read_settings(checkpoint: Checkpoint) -> tuple[ModelSettings, TransformerSettings]:
    """Read the files of a cross-encoder; they do not count without modules.json, or for another kind of model.

    Raises:
        UnsupportedModelError: a module, a prompt or a setting that Triform lacks.
    """
    kind = checkpoint.read_object(MODEL).get("model_type") if checkpoint.has(MODEL) else None
    if not checkpoint.has(MODULES) or kind != MODEL_TYPE:
        return ModelSettings(), TransformerSettings.without_files()
    path, modules = read_modules(checkpoint)
    if path or modules:
        raise UnsupportedModelError(
            f"{checkpoint.folder / MODULES}: expected one Transformer, beside this file. Choose a reranker without "
            "other modules."
        )
    settings = ModelSettings.read(checkpoint, MODEL_TYPE)
    if settings.default_prompt is not None:
        raise UnsupportedModelError(
            f"{checkpoint.folder / MODEL}: default_prompt_name is {settings.default_prompt!r}; expected none: Triform "
            "ranks without prompts only. Choose a reranker that needs none."
        )
    return settings, TransformerSettings.read(checkpoint, "sequence-classification", OUTPUT)


def read_activation(checkpoint: Checkpoint) -> str:
    """Read the name of the function from the logit to the score: the sigmoid where no file names one.

    Raises:
        UnsupportedModelError: another activation.
    """
    config = Settings.of_file(checkpoint, "config.json")
    older = Settings(config.mapping("sentence_transformers") or {}, f"{config.where}: sentence_transformers")
    older.ignore("version")
    named = older.optional_string("activation_fn")
    older.close()
    oldest = config.optional_string("sbert_ce_default_activation_function")
    path = read_settings(checkpoint)[0].activation or named or oldest or "torch.nn.Sigmoid"
    activation = torch_class(path)
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: activation {path!r} is not supported; Triform has {', '.join(ACTIVATIONS)} of torch."
        )
    return activation
