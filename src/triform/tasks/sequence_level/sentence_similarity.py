"""Similarity of sentences to a source sentence, by the cosines of their embeddings."""

from collections.abc import Sequence
from typing import Any, ClassVar

from triform import spec
from triform.inputs import Batch, Tokenizer
from triform.model import Model
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding, Vector, VectorOptions
from triform.tasks.task import Fields, Rows
from triform.tasks.text_task import TextTask, read_object


class SentenceSimilarity(TextTask[Rows, list[float]]):
    """Answers, for `{source_sentence, sentences}`, the cosine of each sentence's embedding with the source's."""

    name = "sentence-similarity"
    summary = "How near each of several sentences is in meaning to a source, from -1 to 1."
    example = '{"source_sentence": "A cat sat.", "sentences": ["A kitten was sitting.", "It rains."]}'
    fields: ClassVar[Fields] = {"source_sentence": str, "sentences": list[str]}
    options_type = VectorOptions
    several_sequences = True
    head = None
    forms = (spec.Encoder, spec.Decoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self._embedding = SentenceEmbedding(model, tokenizer)

    def preprocess(self, inputs: Sequence[Any], options: VectorOptions) -> Batch:
        [given] = inputs
        source, sentences = read_object(given, self.fields)
        return self._embedding.preprocess([source, *sentences], options)

    def forward(self, batch: Batch, options: VectorOptions) -> Vector:
        return self._embedding.embed(batch, options, normalize=True)

    def postprocess(self, batch: Batch, tensors: Rows, options: VectorOptions) -> list[list[float]]:
        source, sentences = tensors[0], tensors[1:]
        return [(sentences @ source).tolist()]
