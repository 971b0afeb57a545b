"""From a batch to the first hidden states.

An embedding is a sum type: each member names one kind of input and has a layer in `networks/layers/embedding.py`, which
checks that input. Every member has a `hidden_size` and a `position`.
"""

from dataclasses import dataclass

from triform.spec.norm import Norm
from triform.spec.position import Learned, Sinusoidal

__all__ = ["Embedding", "TokenEmbedding"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEmbedding:
    """norm(word·scale + segment + position), for ids. Devlin et al. 2018, figure 2."""

    vocab_size: int
    hidden_size: int
    scale: float = 1.0
    """Multiplies the word vectors: √hidden_size in Marian."""
    position: Learned | Sinusoidal | None = None
    num_segments: int | None = None
    """Rows of the segment table, for `token_type_ids`; None for no segment table."""
    norm: Norm | None = None
    dropout: float = 0.0
    """Dropout rate of the result, while training."""


Embedding = TokenEmbedding
"""A union of all embeddings. Patches of images and frames of audio will be further members."""
