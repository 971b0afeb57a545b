"""A vector for a text, as sentence-transformers makes it: pooled, and changed by the model's modules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.engines import Integers, Spans
from triform.errors import InputError, NonFiniteError, shown
from triform.hub import Checkpoint
from triform.inputs import Batch, Tokenizer, pack_texts
from triform.model import Model, load
from triform.tasks.options import option
from triform.tasks.sequence_level.sentence_messages import Messages
from triform.tasks.sequence_level.sentence_settings import MODULES
from triform.tasks.sequence_level.sentence_transformers import (
    Dense,
    DenseLayer,
    Normalize,
    Recipe,
    inside,
    read_modules,
)
from triform.tasks.task import Answer, Tensors
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


class SentenceTask(TextTask[Tensors, Answer]):
    """A task whose model is described by the files of sentence-transformers."""

    head = None
    forms = (spec.Encoder, spec.Decoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, /, *, recipe: Recipe | None = None, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self.recipe = Recipe.of_model(model) if recipe is None else recipe

    @classmethod
    def read_processor(cls, model: Model) -> Tokenizer:
        return Recipe.of_model(model).transformer.read_tokenizer(model.checkpoint)

    @classmethod
    def load_files(cls, files: Checkpoint, *, engine: str, dtype: str, **options: Any) -> Self:
        """Load a model and its tokenizer from where modules.json says, beside an adapter if it is there."""
        recipe = Recipe.read(files)
        if files.has(MODULES):
            files = inside(files, read_modules(files)[0])
        if recipe.checkpoint is files.adapter:
            files = replace(files, adapter=inside(files.adapter, recipe.path))
        loaded = load(files, engine=engine, dtype=dtype, with_head=False)
        return cls(loaded, recipe.transformer.read_tokenizer(loaded.checkpoint), recipe=recipe, **options)


class SentenceEmbedding(SentenceTask[Vector, Vector]):
    """Answers a float32 vector for a text, an array (N, size) for a list of N."""

    name = "sentence-embedding"
    summary = "A vector for each text; near in meaning is near in angle."
    example = "A cat sat on the mat."
    options_type = SentenceEmbeddingOptions

    def __init__(self, model: Model, tokenizer: Tokenizer, /, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self._modules = [
            DenseLayer(model.engine, self.recipe.checkpoint, module)
            if isinstance(module, Dense)
            else model.engine.normalize
            for module in self.recipe.modules
        ]
        self._messages = Messages.of_model(model, tokenizer, self.recipe.transformer.messages)
        self._size(self.options)  # so that a truncate_dim that is too large is known at once

    def preprocess(self, inputs: Sequence[str], options: VectorOptions) -> Batch:
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {shown(text)}.")
        prompt = self._prompt(options)
        if self._messages is not None:
            return pack_texts(self._messages.encode_texts(inputs, prompt, self.limit()))
        return self.encode([prompt + text for text in inputs], options)

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
        # A prompt that is a message is pooled, as in sentence-transformers.
        if not self.recipe.pools_prompt and self._messages is None:
            # Never the whole sequence: an empty text keeps its last token.
            begins = np.minimum(spans.begins + self._prompt_length(options), spans.ends - 1)
            spans = Spans(begins, spans.ends)
        skipped = spans.begins - batch.spans.begins
        vectors = []
        for pooling in self.recipe.poolings:
            pooled = engine.to_numpy(engine.pool(states, spans, pooling))
            if pooling is spec.Pooling.WEIGHTED_MEAN and skipped.any():
                mean = engine.to_numpy(engine.pool(states, spans, spec.Pooling.MEAN))
                pooled = _weighted_behind(pooled, mean, spans.lengths, skipped)
            vectors.append(pooled)
        joined: Vector = np.concatenate(vectors, axis=-1)
        return joined

    def _size(self, options: Any) -> int:
        """The length of the vectors."""
        size = self.model.spec.input_stack.embedding.hidden_size * len(self.recipe.poolings)
        for module in self.recipe.modules:
            size = module.out_features if isinstance(module, Dense) else size
        if options.truncate_dim is not None and options.truncate_dim > size:
            raise InputError(f"truncate_dim={options.truncate_dim}: the model's vectors have only {size} numbers.")
        return min(size, options.truncate_dim or self.recipe.settings.truncate_dim or size)

    def _prompt(self, options: VectorOptions) -> str:
        if options.prompt is not None:
            return options.prompt
        name = options.prompt_name or self.recipe.settings.default_prompt
        if name is None:
            return ""
        if name not in self.recipe.settings.prompts:
            known = ", ".join(self.recipe.settings.prompts) or "none"
            raise InputError(f"prompt_name={name!r}: the model brings these prompts: {known}.")
        return self.recipe.settings.prompts[name]

    def _prompt_length(self, options: VectorOptions) -> int:
        """Count the rows of the prompt, with the leading special token and without a special token at its end."""
        prompt = self._prompt(options)
        if not prompt:
            return 0
        encoded = self.tokenizer.encode([prompt])[0]
        return len(encoded.ids) - (encoded.tokens[-1] in self.tokenizer.special_tokens)


def _weighted_behind(weighted: Vector, mean: Vector, lengths: Integers, skipped: Integers) -> Vector:
    """Weigh the rows behind a prompt by their positions in the whole sequence.

    Arguments:
        weighted: (B, D) mean of the rows, weighted by 1, 2 … lengths.
        mean: (B, D) their mean.
        lengths: (B,) rows of each sequence behind the prompt.
        skipped: (B,) rows of the prompt.
    """
    own, shift = (lengths + 1) / 2, skipped  # sums of weights, divided by the number of rows
    vectors = (weighted * own[:, None] + mean * shift[:, None]) / (own + shift)[:, None]
    return vectors.astype(np.float32)
