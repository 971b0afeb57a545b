"""Step 1: human input → Batch."""

from triform.inputs.batch import Batch, Source
from triform.inputs.text.encoded_text import EncodedText, pack_texts
from triform.inputs.text.stop_strings import StoppedText
from triform.inputs.text.text_stream import TextStream
from triform.inputs.text.tokenizer import LongInput, Tokenizer
from triform.inputs.text.windows import cut_into_windows, merge_windows, shares_of, whole_texts

__all__ = [
    "Batch",
    "EncodedText",
    "LongInput",
    "Source",
    "StoppedText",
    "TextStream",
    "Tokenizer",
    "cut_into_windows",
    "merge_windows",
    "pack_texts",
    "shares_of",
    "whole_texts",
]
