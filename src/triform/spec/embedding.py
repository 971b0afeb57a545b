"""From a batch to the first hidden states.

An embedding is a sum type: each member names one kind of input and has a layer in `networks/layers/embedding.py`, which
checks that input. Every member has a `hidden_size` and a `position`.
"""

from dataclasses import dataclass

from triform.spec.norm import Norm
from triform.spec.position import Learned, Sinusoidal


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEmbedding:
    """norm(word·scale + segment + position), for ids. Devlin et al. 2018, figure 2."""

    vocab_size: int
    hidden_size: int
    scale: float = 1.0
    """Multiplies the word vectors: √hidden_size in Marian."""
    position: Learned | Sinusoidal | None = None
    num_segments: int | None = None
    """Rows of the segment table, which `token_type_ids` name; None where the model has no such table."""
    norm: Norm | None = None
    dropout: float = 0.0
    """Of the result, while training."""


Embedding = TokenEmbedding
"""A union of all members; embeddings of patches and of audio frames join it with the first family that needs one."""
