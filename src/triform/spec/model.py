"""The three forms of transformer."""

from dataclasses import dataclass

from triform.spec.block import Block
from triform.spec.embedding import Embedding, TokenEmbedding
from triform.spec.head import Head
from triform.spec.norm import Norm


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """An embedding, blocks and a final norm."""

    embedding: Embedding
    blocks: tuple[Block, ...]
    final_norm: Norm | None = None
    dropout: float = 0.0
    """Behind the final norm, while training."""
    block_dropout: float = 0.0
    """How often a block is passed over while training. Fan et al. 2020, "Reducing Transformer Depth on Demand"."""
    context_length: int | None = None
    """The most tokens of one sequence; None where nothing sets a limit."""

    @property
    def vocab_size(self) -> int:
        """The number of different ids, for a stack that reads ids."""
        assert isinstance(self.embedding, TokenEmbedding), "features have no vocabulary"
        return self.embedding.vocab_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """Tokens see each other in both directions: BERT."""

    stack: Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """Tokens see those before them: GPT, Llama."""

    stack: Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftTokensRight:
    """The decoder reads what the encoder reads, one token late. Lewis et al. 2019, section 3.1."""

    start: int
    """The id that comes before the source, in place of its last token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoder:
    """A decoder that also sees the encoder's states: T5, BART."""

    encoder: Stack
    decoder: Stack
    shares_embedding: bool
    """Whether both stacks use one word table, the encoder's."""
    target: ShiftTokensRight | None = None
    """What the decoder reads; None where the caller says it, such as what has been generated so far."""


Form = Encoder | Decoder | EncoderDecoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A form, and the head on top of it. `head` is None for the backbone alone."""

    form: Form
    head: Head | None

    @property
    def output_stack(self) -> Stack:
        """The stack that the head stands on."""
        return self.form.decoder if isinstance(self.form, EncoderDecoder) else self.form.stack

    @property
    def input_stack(self) -> Stack:
        """The stack that reads the input."""
        return self.form.encoder if isinstance(self.form, EncoderDecoder) else self.form.stack
