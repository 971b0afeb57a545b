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
"""Which of Triform's engines is measured."""

TOKEN_BUDGET = 2048
"""Tokens in one packed pass: enough to keep the matrix products busy, few enough to keep memory low."""


def has(format: str) -> bool:
    """Whether the engine that is measured can hold weights in a format."""
    return FORMATS[format] in create_engine(ENGINE).formats


def load_encoder(folder: Path, format: str) -> triform.Model:
    """The backbone of a checkpoint."""
    return triform.load(folder, dtype=format, engine=ENGINE, with_head=False)


def load_reference_encoder(folder: Path) -> triform.Model:
    """The same on the reference engine in float32, which all sides are held to."""
    return triform.load(folder, dtype="float32", engine="reference", with_head=False)


def load(folder: Path, format: str) -> triform.Model:
    """The model of a checkpoint with its head."""
    return triform.load(folder, dtype=format, engine=ENGINE)


def embed(model: triform.Model, texts: Sequence[list[int]]) -> NDArray[np.float32]:
    """The mean of the last hidden states of each text: (texts, hidden_size). In the order given, with no padding."""
    pooled = [
        model.engine.to_numpy(model.engine.pool(model(part).last_hidden_state, part.spans, Pooling.MEAN))
        for part in triform.Batch.from_ids(list(texts)).split(TOKEN_BUDGET)
    ]
    return np.concatenate(pooled)


def prefill(model: triform.Model, prompt: list[int]) -> NDArray[np.float32]:
    """Read a prompt into a cache: the logits (vocab_size,) of the token that would follow."""
    output = model(
        triform.Batch.from_ids([prompt]), cache=model.new_cache(1), logits_at=np.array([len(prompt) - 1], np.int64)
    )
    logits: NDArray[np.float32] = model.engine.to_numpy(output.logits)[0]
    return logits


def generate(model: triform.Model, sources: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
    """Greedy decoding of `num_tokens` for each source; the checkpoint names no end token."""
    return model.generate(triform.Batch.from_ids(list(sources)), max_new_tokens=num_tokens)


def translate(model: triform.Model, sources: Sequence[list[int]], num_tokens: int, num_beams: int) -> list[list[int]]:
    """The best of `num_beams`, of `num_tokens` for each source; the checkpoint names no end token."""
    return model.generate(triform.Batch.from_ids(list(sources)), max_new_tokens=num_tokens, num_beams=num_beams)


def linears(model: triform.Model) -> Callable[[], None]:
    """What multiplies one row by every linear of a model, one after the other."""
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
    """What multiplies rows (T, in) by the first linear of a model that makes (T, out) of them."""
    weight = next(weight for weight in linear_weights(model) if weight.shape == (out, x.shape[1]))
    rows = model.engine.asarray(x)
    return lambda: model.engine.linear(rows, weight)


def linear_weights(model: triform.Model) -> list[Parameter]:
    """Those that a row of states is multiplied by."""
    declared = model.blueprint.declared.items()
    return [model.parameters[name] for name, declaration in declared if ParameterRole.LINEAR in declaration.role]
