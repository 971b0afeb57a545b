"""Shared helpers of the peers: texts sorted by length into batches, and batches padded."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Embed


def embed_sorted(embed: Embed, texts: Sequence[list[int]], *, batch_size: int, streams: int) -> NDArray[np.float32]:
    """Embed texts in batches of like lengths, the longest first, `streams` at a time: (texts, hidden_size)."""
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    parts = [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(streams) as pool:
        vectors = list(pool.map(lambda part: embed([texts[index] for index in part]), parts))
    result = np.empty((len(texts), vectors[0].shape[1]), np.float32)
    result[order] = np.concatenate(vectors)
    return result


def pad(texts: Sequence[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and attention mask, (texts, longest) each, padded on the right."""
    lengths = np.array([len(text) for text in texts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate([np.asarray(text, np.int64) for text in texts])
    return ids, mask.astype(np.int64)
