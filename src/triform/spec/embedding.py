"""From ids to the first hidden states: word + position + segment."""

from dataclasses import dataclass

from triform.spec.norm import Norm
from triform.spec.position import Learned, Sinusoidal


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """The sum of up to three tables, with an optional norm. Devlin et al. 2018, figure 2."""

    vocab_size: int
    hidden_size: int
    scale: float = 1.0
    """Multiplies the word vectors: √hidden_size in Marian."""
    position: Learned | Sinusoidal | None = None
    num_segments: int | None = None
    """Rows of the segment table (`token_type_ids`); None where the model has no such table."""
    norm: Norm | None = None
    dropout: float = 0.0
    """Of the result, while training."""
