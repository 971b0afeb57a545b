"""Step 1: human input → Batch."""

from triform.inputs.batch import Batch, EncodedText
from triform.inputs.tokenizer import LongInput, Tokenizer

__all__ = ["Batch", "EncodedText", "LongInput", "Tokenizer"]
