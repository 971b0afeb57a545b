"""A vector for a text, as sentence-transformers makes it: pooled, and changed by the model's modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.engines import Spans
from triform.errors import InputError, NonFiniteError, shown
from triform.inputs import Batch, Tokenizer
from triform.model import Model
from triform.tasks.options import option
from triform.tasks.sequence_level.sentence_transformers import Dense, DenseLayer, Normalize, Recipe
from triform.tasks.text_task import TextOptions, TextTask

Vector = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorOptions(TextOptions):
    """Options of all tasks that embed sentences."""

    prompt: str | None = option(None, "Text to put before each input, as some models were trained with.")
    prompt_name: str | None = option(None, "One of the prompts that the model brings, by its name.")
    truncate_dim: int | None = option(
        None, "Keep this many of the first numbers, for models trained to allow it (Matryoshka).", minimum=1
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceEmbeddingOptions(VectorOptions):
    """Options of sentence-embedding."""

    normalize: bool | None = option(None, "Scale vectors to length 1; by default as the model says.")


class SentenceEmbedding(TextTask[Vector, Vector]):
    """Answers a float32 vector for a text, an array (N, size) for a list of N."""

    name = "sentence-embedding"
    summary = "A vector for each text; near in meaning is near in angle."
    example = "A cat sat on the mat."
    options_type = SentenceEmbeddingOptions
    head = None
    forms = (spec.Encoder, spec.Decoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self.recipe = Recipe.read(model.checkpoint)
        self._modules = [
            DenseLayer(model.engine, model.checkpoint, module) if isinstance(module, Dense) else model.engine.normalize
            for module in self.recipe.modules
        ]
        self._size(self.options)  # so that a truncate_dim that is too large is known at once

    def preprocess(self, inputs: Sequence[str], options: VectorOptions) -> Batch:
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {shown(text)}.")
        texts = [self._prompt(options) + text for text in inputs]
        if self.recipe.lowercase:
            texts = [text.lower() for text in texts]
        return self.encode(texts, options, max_length=self.recipe.max_length)

    def forward(self, batch: Batch, options: SentenceEmbeddingOptions) -> Vector:
        return self.embed(batch, options, normalize=options.normalize)

    def postprocess(self, batch: Batch, tensors: Vector, options: SentenceEmbeddingOptions) -> list[Vector]:
        return list(tensors)

    def many(self, answers: list[Vector]) -> Vector:
        return np.array(answers, np.float32).reshape(len(answers), -1 if answers else self._size(self.options))

    def embed(self, batch: Batch, options: VectorOptions, *, normalize: bool | None) -> Vector:
        """Embed the B texts of a batch → (B, size): pooled, changed by the modules, truncated.

        `normalize` true scales the truncated vectors, false omits the model's last normalisation, None does neither.
        """
        engine, size = self.model.engine, self._size(options)
        modules = self._modules
        if normalize is False and self.recipe.modules and isinstance(self.recipe.modules[-1], Normalize):
            modules = modules[:-1]
        x = engine.asarray(self._pool(batch, options))
        for module in modules:
            x = module(x)
        # Truncated behind all modules and not scaled again, as in sentence-transformers.
        vectors: Vector = engine.to_numpy(x)[:, :size]
        if not engine.all_finite(x):
            raise NonFiniteError(
                f"{self.model.checkpoint.source}: its modules make NaN or infinity of the text's vector. "
                "Are the weights damaged? Fetch the model again."
            )
        return engine.to_numpy(engine.normalize(engine.asarray(vectors))) if normalize else vectors

    def _pool(self, batch: Batch, options: VectorOptions) -> Vector:
        engine, states = self.model.engine, self.model(batch).last_hidden_state
        spans = batch.spans
        if not self.recipe.pools_prompt:
            # Never the whole sequence: an empty text keeps its last token.
            begins = np.minimum(spans.begins + self._prompt_length(options), spans.ends - 1)
            spans = Spans(begins, spans.ends)
        vectors = [engine.pool(states, spans, pooling) for pooling in self.recipe.poolings]
        joined: Vector = np.concatenate([engine.to_numpy(v) for v in vectors], axis=-1)
        return joined

    def _size(self, options: Any) -> int:
        """The length of the vectors."""
        size = self.model.spec.input_stack.embedding.hidden_size * len(self.recipe.poolings)
        for module in self.recipe.modules:
            size = module.out_features if isinstance(module, Dense) else size
        if options.truncate_dim is not None and options.truncate_dim > size:
            raise InputError(f"truncate_dim={options.truncate_dim}: the model's vectors have only {size} numbers.")
        return min(size, options.truncate_dim or self.recipe.truncate_dim or size)

    def _prompt(self, options: VectorOptions) -> str:
        if options.prompt is not None:
            return options.prompt
        name = options.prompt_name or self.recipe.default_prompt
        if name is None:
            return ""
        if name not in self.recipe.prompts:
            known = ", ".join(self.recipe.prompts) or "none"
            raise InputError(f"prompt_name={name!r}: the model brings these prompts: {known}.")
        return self.recipe.prompts[name]

    def _prompt_length(self, options: VectorOptions) -> int:
        """Count the rows of the prompt, with the leading special token and without the closing one."""
        prompt = self._prompt(options)
        if not prompt:
            return 0
        encoded = self.tokenizer.encode([prompt])[0]
        return len(encoded.ids) - (encoded.sequence_ids[-1] is None)
