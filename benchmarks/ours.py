"""Triform's side of every comparison. Imports no torch, so that a process can measure this side alone."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import triform
from triform.engines import FORMATS, Parameter, ParameterRole, create_engine
from triform.spec import Pooling

ENGINE = os.environ.get("TRIFORM_ENGINE", "auto")
"""The measured engine of Triform."""

TOKEN_BUDGET = 2048
"""Tokens in one packed pass: enough to keep the matrix products busy, few enough to keep memory low."""


def has(format: str) -> bool:
    """Return whether the measured engine can hold weights in a format."""
    return FORMATS[format] in create_engine(ENGINE).formats


def load_encoder(folder: Path, format: str) -> triform.Model:
    """Load the backbone of a checkpoint."""
    return triform.load(folder, dtype=format, engine=ENGINE, with_head=False)


def load_reference_encoder(folder: Path) -> triform.Model:
    """Load the same on the reference engine in float32, the standard for all sides."""
    return triform.load(folder, dtype="float32", engine="reference", with_head=False)


def load(folder: Path, format: str) -> triform.Model:
    """Load the model of a checkpoint with the head."""
    return triform.load(folder, dtype=format, engine=ENGINE)


def embed(model: triform.Model, texts: Sequence[list[int]]) -> NDArray[np.float32]:
    """Compute the mean of the last hidden states of each text: (texts, hidden_size), in order, without padding."""
    pooled = [
        model.engine.to_numpy(model.engine.pool(model(part).last_hidden_state, part.spans, Pooling.MEAN))
        for part in triform.Batch.from_ids(list(texts)).split(TOKEN_BUDGET)
    ]
    return np.concatenate(pooled)


def prefill(model: triform.Model, prompt: list[int]) -> NDArray[np.float32]:
    """Read a prompt into a cache: the logits (vocab_size,) of the next token."""
    output = model(
        triform.Batch.from_ids([prompt]), cache=model.new_cache(1), logits_at=np.array([len(prompt) - 1], np.int64)
    )
    logits: NDArray[np.float32] = model.engine.to_numpy(output.logits)[0]
    return logits


def generate(model: triform.Model, sources: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
    """Decode `num_tokens` greedily for each source; the checkpoint names no end token."""
    return model.generate(triform.Batch.from_ids(list(sources)), max_new_tokens=num_tokens)


def translate(model: triform.Model, sources: Sequence[list[int]], num_tokens: int, num_beams: int) -> list[list[int]]:
    """Decode `num_tokens` for each source with `num_beams`; the checkpoint names no end token."""
    return model.generate(triform.Batch.from_ids(list(sources)), max_new_tokens=num_tokens, num_beams=num_beams)


def linears(model: triform.Model) -> Callable[[], None]:
    """Return a call that multiplies one row by every linear of a model in turn."""
    weights = linear_weights(model)
    random = np.random.default_rng(0)
    inputs = {
        in_: model.engine.asarray(random.standard_normal((1, in_), np.float32))
        for in_ in {weight.shape[1] for weight in weights}
    }

    def products() -> None:
        for weight in weights:
            model.engine.linear(inputs[weight.shape[1]], weight)

    return products


def product(model: triform.Model, x: NDArray[np.float32], out: int) -> Callable[[], object]:
    """Return a call that multiplies rows (T, in) by the first linear with output (T, out)."""
    weight = next(weight for weight in linear_weights(model) if weight.shape == (out, x.shape[1]))
    rows = model.engine.asarray(x)
    return lambda: model.engine.linear(rows, weight)


def linear_weights(model: triform.Model) -> list[Parameter]:
    """Return the weights that multiply a row of states."""
    declared = model.blueprint.declared.items()
    return [model.parameters[name] for name, declaration in declared if ParameterRole.LINEAR in declaration.role]
