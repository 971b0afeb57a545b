"""The three forms of transformer."""

from dataclasses import dataclass

from triform.spec.block import Block
from triform.spec.embedding import Embedding, TokenEmbedding
from triform.spec.head import Head
from triform.spec.norm import Norm

__all__ = ["Decoder", "Encoder", "EncoderDecoder", "Form", "Model", "ShiftTokensRight", "Stack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """An embedding, blocks and a final norm."""

    embedding: Embedding
    blocks: tuple[Block, ...]
    final_norm: Norm | None = None
    dropout: float = 0.0
    """Dropout rate behind the final norm, while training."""
    block_dropout: float = 0.0
    """Rate of skipped blocks while training: LayerDrop. Fan et al. 2020, "Reducing Transformer Depth on Demand"."""
    context_length: int | None = None
    """The most tokens of a sequence; None for no limit."""

    @property
    def vocab_size(self) -> int:
        """The number of different ids, for a stack with a token embedding."""
        assert isinstance(self.embedding, TokenEmbedding), "features have no vocabulary"
        return self.embedding.vocab_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """Encoder-only: tokens see both directions, as in BERT."""

    stack: Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """Decoder-only: tokens see earlier tokens, as in GPT and Llama."""

    stack: Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftTokensRight:
    """The decoder reads the source, shifted right by a token. Lewis et al. 2019, section 3.1."""

    start: int
    """The id before the source, which replaces the last token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDecoder:
    """Encoder-decoder: the decoder also sees the encoder's states, as in T5 and BART."""

    encoder: Stack
    decoder: Stack
    shares_embedding: bool
    """Whether both stacks use one word table, the encoder's."""
    target: ShiftTokensRight | None = None
    """The decoder's input; None if the caller gives the input, as generation does."""


Form = Encoder | Decoder | EncoderDecoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A form, and the head on top. `head` is None for the backbone alone."""

    form: Form
    head: Head | None

    @property
    def output_stack(self) -> Stack:
        """The stack below the head."""
        return self.form.decoder if isinstance(self.form, EncoderDecoder) else self.form.stack

    @property
    def input_stack(self) -> Stack:
        """The stack at the input."""
        return self.form.encoder if isinstance(self.form, EncoderDecoder) else self.form.stack
