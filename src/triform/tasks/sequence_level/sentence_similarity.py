"""Similarity of sentences to a source sentence, by the cosines of their embeddings, or as the model's files say."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from triform.inputs import Batch, Tokenizer
from triform.model import Model
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding, SentenceTask, Vector, VectorOptions
from triform.tasks.sequence_level.sentence_settings import COSINE
from triform.tasks.task import Fields, Rows
from triform.tasks.text_task import read_object


class SentenceSimilarity(SentenceTask[Rows, list[float]]):
    """Answers, for `{source_sentence, sentences}`, the cosine of each sentence's embedding with the source's.

    Where the files of sentence-transformers name another similarity, that is the answer: the dot product, or the
    negative distance.
    """

    name = "sentence-similarity"
    summary = "How near each of several sentences is in meaning to a source, from -1 to 1."
    example = '{"source_sentence": "A cat sat.", "sentences": ["A kitten was sitting.", "It rains."]}'
    fields: ClassVar[Fields] = {"source_sentence": str, "sentences": list[str]}
    options_type = VectorOptions
    several_sequences = True

    def __init__(self, model: Model, tokenizer: Tokenizer, /, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self._embedding = SentenceEmbedding(model, tokenizer, recipe=self.recipe)

    def preprocess(self, inputs: Sequence[Any], options: VectorOptions) -> Batch:
        [given] = inputs
        source, sentences = read_object(given, self.fields)
        return self._embedding.preprocess([source, *sentences], options)

    def forward(self, batch: Batch, options: VectorOptions) -> Vector:
        is_cosine = self.recipe.settings.similarity == COSINE
        return self._embedding.embed(batch, options, normalize=True if is_cosine else None)

    def postprocess(self, batch: Batch, tensors: Rows, options: VectorOptions) -> list[list[float]]:
        source, sentences = tensors[0], tensors[1:]
        match self.recipe.settings.similarity:
            case "euclidean":
                scores = -np.linalg.norm(sentences - source, axis=-1)
            case "manhattan":
                scores = -np.abs(sentences - source).sum(axis=-1)
            case _:
                scores = sentences @ source
        return [scores.tolist()]
