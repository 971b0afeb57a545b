"""Triform's side of every comparison. Imports no torch, so that a process can measure this side alone."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import triform
from triform.spec import Pooling

ENGINE = os.environ.get("TRIFORM_ENGINE", "auto")
"""Which of Triform's engines is measured."""

TOKEN_BUDGET = 2048
"""Tokens in one packed pass: enough to keep the matrix products busy, few enough to keep memory low."""


def load_encoder(folder: Path) -> triform.Model:
    """The backbone of a checkpoint."""
    return triform.load(folder, dtype="float32", engine=ENGINE, with_head=False)


def load(folder: Path) -> triform.Model:
    """The model of a checkpoint with its head."""
    return triform.load(folder, dtype="float32", engine=ENGINE)


def embed(model: triform.Model, texts: list[list[int]]) -> NDArray[np.float32]:
    """The mean of the last hidden states of each text: (texts, hidden_size). In the order given, with no padding."""
    pooled = [
        model.engine.to_numpy(model.engine.pool(model(part).last_hidden_state, part.spans, Pooling.MEAN))
        for part in triform.Batch.from_ids(texts).split(TOKEN_BUDGET)
    ]
    return np.concatenate(pooled)


def prefill(model: triform.Model, prompt: list[int]) -> NDArray[np.float32]:
    """Read a prompt into a cache: the logits (vocab_size,) of the token that would follow."""
    output = model(
        triform.Batch.from_ids([prompt]), cache=model.new_cache(1), logits_at=np.array([len(prompt) - 1], np.int64)
    )
    logits: NDArray[np.float32] = model.engine.to_numpy(output.logits)[0]
    return logits


def generate(model: triform.Model, sources: list[list[int]], num_tokens: int) -> list[list[int]]:
    """Greedy decoding of `num_tokens` for each source; the checkpoint names no end token."""
    return model.generate(triform.Batch.from_ids(sources), max_new_tokens=num_tokens)


def embed_sentence(folder: Path, sentence: str) -> list[float]:
    """A sentence embedding, from nothing."""
    vector: list[float] = triform.pipeline("sentence-embedding", model=folder, engine=ENGINE)(sentence).tolist()
    return vector
