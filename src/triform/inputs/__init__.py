"""Step 1: human input → Batch."""

from triform.inputs.batch import Batch, EncodedText
from triform.inputs.text.text_stream import TextStream
from triform.inputs.text.tokenizer import LongInput, Tokenizer
from triform.inputs.text.windows import cut_into_windows, merge_windows, shares_of

__all__ = [
    "Batch",
    "EncodedText",
    "LongInput",
    "TextStream",
    "Tokenizer",
    "cut_into_windows",
    "merge_windows",
    "shares_of",
]
