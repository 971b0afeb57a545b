"""Tokenizers of the `tokenizers` library as a class of transformers builds them: a vocabulary, and a pipeline round it.

The vocabulary comes from tokenizer.json or from older files. The pipeline comes from the class and its settings, as in
transformers 5, which does not read the pipeline of a tokenizer.json whose class is known.
"""

from collections.abc import Callable
from typing import NamedTuple

import tokenizers

from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import add_numbered, add_others, read_added_tokens
from triform.inputs.text.library import LibraryBackend
from triform.inputs.text.tokenizer_settings import TokenizerSettings


class Pipeline(NamedTuple):
    """The pipeline of a class of tokenizers."""

    model: str
    """The library's name of the algorithm."""
    set_up: Callable[[tokenizers.Tokenizer, TokenizerSettings], None]
    """Sets options of the model, normalizer, pre-tokenizer and decoder."""
    frame: Callable[[tokenizers.Tokenizer, TokenizerSettings, str], None]
    """Sets the special tokens around a text; the string is the file of the vocabulary, for messages."""

    def build(
        self, tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: TokenizerSettings, file: str
    ) -> LibraryBackend:
        """Complete a tokenizer that has its vocabulary.

        Arguments:
            tokenizer: with the vocabulary.
            checkpoint: the folder with the tokenizer's files.
            settings: of the tokenizer.
            file: the file of the vocabulary, for messages.

        Raises:
            TokenizerError: a token is missing, or has another id than a file says.
        """
        self.set_up(tokenizer, settings)
        return complete(tokenizer, checkpoint, settings, self.frame, file)


def complete(
    tokenizer: tokenizers.Tokenizer,
    checkpoint: Checkpoint,
    settings: TokenizerSettings,
    frame: Callable[[tokenizers.Tokenizer, TokenizerSettings, str], None],
    file: str,
) -> LibraryBackend:
    """Add the added tokens, and the special tokens around a text.

    Raises:
        TokenizerError: a token is missing, or has another id than a file says.
    """
    tokens = read_added_tokens(checkpoint, settings, tokenizer.get_added_tokens_decoder())
    add_numbered(tokenizer, tokens, str(checkpoint.folder))
    # The frame needs tokens of the vocabulary, or with an id. The others come last.
    frame(tokenizer, settings, file)
    add_others(tokenizer, tokens)
    tokenizer.encode_special_tokens = settings.boolean("split_special_tokens", False)
    return LibraryBackend(tokenizer)
