"""Text → tokens and ids, and back, for every kind of tokenizer file."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from triform.errors import ContextLengthError, InputError, TokenizerError, shown
from triform.hub import TOKENIZER, TOKENIZER_FILES, Checkpoint
from triform.inputs.text.backend import Backend, Side, Text, Tokens
from triform.inputs.text.encoded_text import EncodedText
from triform.inputs.text.tokenizer_classes import gives_token_types, tokenizer_class
from triform.inputs.text.tokenizer_settings import ROLES, TokenizerSettings, read_settings
from triform.strict_json import MAX_BYTES

MAX_CHARACTERS = 2**22
"""Most characters of one text. The tokens of such a text take about 2 GB."""


class LongInput(StrEnum):
    """The policy for text of more tokens than fit."""

    ERROR = "error"
    TRUNCATE = "truncate"
    """Cut the text at the end that the task or tokenizer_config.json names, and count the dropped tokens."""
    WINDOW = "window"
    """Read the whole text in windows that overlap."""


class Tokenizer:
    """A checkpoint's tokenizer. Threads may share it."""

    def __init__(self, backend: Backend, settings: TokenizerSettings, *, gives_types: bool) -> None:
        self._backend = backend
        self._settings = settings
        self._gives_types = gives_types
        self._roles = {
            role: content
            for role in ROLES
            if (content := settings.content(role)) is not None and backend.id_of(content) is not None
        }
        self.named_tokens: Mapping[str, str] = {**self._roles, **settings.named()}
        """The special tokens with a role or a name of their own, by their name in chat templates."""
        side = settings.string("truncation_side", "right")
        if side not in ("left", "right"):
            settings.refuse("truncation_side", "'left' or 'right'")
        self._side: Side = "left" if side == "left" else "right"
        names = settings.strings("model_input_names", ("token_type_ids",) if gives_types else ())
        self._has_types = "token_type_ids" in names
        forced = settings.boolean("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
        cleans_up = settings.boolean("clean_up_tokenization_spaces", False)
        self._cleans_up = cleans_up and (forced or not backend.is_bpe)
        self.max_length: int | None = settings.max_length()
        """The most tokens of a sequence by tokenizer_config.json; None for no limit."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, overrides: Mapping[str, Any] | None = None) -> "Tokenizer":
        """Read the tokenizer as transformers reads it: tokenizer.json and its settings, or older files.

        Arguments:
            checkpoint: the folder with the tokenizer's files.
            overrides: settings that win over tokenizer_config.json, such as `model_max_length`.

        Raises:
            TokenizerError: the checkpoint has no tokenizer, a damaged one, or one of an unknown class; or two files
                contradict each other.
            UnsupportedModelError: a settings file has an unknown key, or a value that is not followed.
        """
        checkpoint = checkpoint.having(TOKENIZER)
        settings = read_settings(checkpoint, overrides)
        for name in (*TOKENIZER_FILES, "merges.txt", "target.spm"):
            size = (checkpoint.folder / name).stat().st_size if checkpoint.has(name) else 0
            if size > MAX_BYTES:
                raise TokenizerError(
                    f"{checkpoint.folder / name} has {size:,} bytes; a tokenizer's file has at most {MAX_BYTES:,}. "
                    "Fetch the file again."
                )
        if checkpoint.has("tokenizer.json"):
            from triform.inputs.text.tokenizer_json import read_tokenizer_json

            backend = read_tokenizer_json(checkpoint, settings)
        else:
            kind = tokenizer_class(checkpoint, settings)
            settings.name_roles(kind.roles)
            backend = kind.build(checkpoint, settings)
        tokenizer = cls(backend, settings, gives_types=gives_token_types(checkpoint, settings))
        settings.finish()
        return tokenizer

    def lowercased(self) -> "Tokenizer":
        """Return the tokenizer that turns text to lower case first; special tokens in the text stay whole.

        Raises:
            TokenizerError: a tokenizer of SentencePiece, which has its own normalization.
        """
        return Tokenizer(self._backend.lowercased(), self._settings, gives_types=self._gives_types)

    def encode(
        self,
        texts: Sequence[Text],
        *,
        max_length: int | None = None,
        long_input: LongInput = LongInput.ERROR,
        special_tokens: bool = True,
        side: Side | None = None,
        only_first: bool = False,
    ) -> list[EncodedText]:
        """Encode texts, or pairs of texts.

        Arguments:
            texts: each a string or a pair of strings.
            max_length: the most tokens of one sequence, special ones included.
            long_input: refuse longer texts, or cut them; `cut_into_windows` is for windows.
            special_tokens: whether to add the special tokens of the tokenizer's template.
            side: the end to cut; by default as tokenizer_config.json says, or else "right".
            only_first: cut only the first text of a pair, and not the longer text first.

        Raises:
            InputError: an input that is not a text, a text without a token, or too long a text.
        """
        for number, text in enumerate(texts):
            _check(number, text)
        encoded = []
        for number, (text, tokens) in enumerate(
            zip(texts, self._backend.encode(texts, special_tokens=special_tokens), strict=True)
        ):
            length = len(tokens.ids)
            if not length:
                raise InputError(f"Text {number} is empty: {text!r} has no token. Leave it out.")
            if max_length is not None and length > max_length:
                if long_input is not LongInput.TRUNCATE:
                    raise ContextLengthError(
                        f"Text {number} has {length} tokens, more than the {max_length} that fit: {_start(text)!r}. "
                        'Shorten it, or allow it to be cut with long_input="truncate".',
                        length,
                        max_length,
                    )
                cut = self._backend.encode_cut(
                    text,
                    max_length=max_length,
                    special_tokens=special_tokens,
                    side=side or self._side,
                    only_first=only_first,
                )
                encoded.append(self._encoded(text, cut, dropped=length - len(cut.ids)))
            else:
                encoded.append(self._encoded(text, tokens))
        return encoded

    def _encoded(self, text: Text, tokens: Tokens, dropped: int = 0) -> EncodedText:
        first, pair = text if isinstance(text, tuple) else (text, None)
        return EncodedText(
            text=first,
            pair=pair,
            ids=np.array(tokens.ids, np.int64),
            token_type_ids=np.array(tokens.token_type_ids, np.int64) * self._has_types,
            tokens=tuple(tokens.tokens),
            characters=np.array(tokens.characters, np.int64).reshape(-1, 2),
            sequence_ids=tuple(tokens.sequence_ids),
            words=tuple(tokens.words),
            dropped=dropped,
        )

    def check_fits(self, vocab_size: int) -> None:
        """Refuse a model whose vocabulary lacks the special tokens around every text.

        Other tokens beyond the vocabulary may never occur; the model refuses them where they do.

        Raises:
            TokenizerError: naming tokens and ids.
        """
        [tokens] = self._backend.encode([""], special_tokens=True)
        beyond = [f"{token} = {id}" for token, id in zip(tokens.tokens, tokens.ids, strict=True) if id >= vocab_size]
        if beyond:
            raise TokenizerError(
                f"The tokenizer puts {', '.join(beyond)} round every text, beyond the model's vocabulary of "
                f"{vocab_size} entries. Do the tokenizer and the weights belong together?"
            )

    def encode_rendered(
        self, text: str, *, spelled: Sequence[tuple[int, int]] = (), max_length: int | None = None
    ) -> EncodedText:
        """Encode a text that contains its special tokens, as a chat template writes it; the text is never cut.

        Arguments:
            text: the text.
            spelled: (begin, end) of letters that look like a special token and are ordinary text.
            max_length: the most tokens that fit.

        Raises:
            InputError: a text without a token, too long a text, or letters that always become the token.
        """
        _check(0, text)
        encoded = self._encoded(text, self._backend.encode_rendered(text, spelled))
        letters = set(spelled)
        for id, (begin, end) in zip(encoded.ids.tolist(), encoded.characters.tolist(), strict=True):
            if (begin, end) in letters and id == self.id_of(text[begin:end]):
                raise InputError(
                    f"{text[begin:end]!r} is a special token to this tokenizer even where it is meant as text. "
                    "Take it out of what was said."
                )
        if not len(encoded.ids):
            raise InputError("The conversation is empty: what the chat template makes of it has no token.")
        if max_length is not None and len(encoded.ids) > max_length:
            raise ContextLengthError(
                f"The conversation has {len(encoded.ids)} tokens, more than the {max_length} that fit. "
                "Leave earlier messages out: none is dropped unasked.",
                len(encoded.ids),
                max_length,
            )
        return encoded

    @cached_property
    def of_answers(self) -> "Tokenizer":
        """The tokenizer for texts that the model writes; another one where they have a vocabulary of their own."""
        backend = self._backend.of_answers
        return self if backend is self._backend else Tokenizer(backend, self._settings, gives_types=self._gives_types)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True, clean_up: bool | None = None) -> str:
        """Ids → text.

        Arguments:
            ids: the ids.
            skip_special_tokens: whether to leave special tokens out.
            clean_up: whether to remove spaces before punctuation; by default as tokenizer_config.json says.
        """
        text = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return _clean_up(text) if (self._cleans_up if clean_up is None else clean_up) else text

    def join(self, tokens: Iterable[str]) -> str:
        """Tokens in the spelling of the vocabulary → text."""
        return self._backend.join(tokens)

    @property
    def marks_subwords(self) -> bool:
        """True if the vocabulary marks tokens that continue a word, as WordPiece does with ##."""
        return self._backend.marks_subwords

    def id_of(self, token: str) -> int | None:
        """Id of a token of the vocabulary, or None."""
        return self._backend.id_of(token)

    def token_of(self, id: int) -> str | None:
        """Token of an id in the spelling of the vocabulary, or None."""
        return self._backend.token_of(id)

    def bytes_of_tokens(self) -> list[bytes]:
        """List the bytes that each id adds inside a text; no bytes for special tokens and ids without a token."""
        silent = {*self.special_tokens, *self._roles.values()}
        tokens = map(self.token_of, range(self._backend.num_ids))
        return [
            b"" if token is None or token in silent else self._backend.token_bytes(token) or b"" for token in tokens
        ]

    def bytes_of(self, id: int) -> bytes:
        """Return the bytes that an id adds inside a text; of a special token those of its name."""
        token = self.token_of(id)
        if token is None:
            return b""
        known = None if token in self.special_tokens else self._backend.token_bytes(token)
        return known or token.encode()

    @property
    def special_tokens(self) -> Collection[str]:
        """Tokens that are not part of any text, such as the end of a text."""
        return self._backend.special_tokens

    def special(self, role: str) -> str | None:
        """Special token of a role such as "mask_token", or None."""
        return self._roles.get(role)


SPACES = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""Parts of a text that `clean_up_tokenization_spaces` writes without spaces, in this order, as in transformers."""


def _clean_up(text: str) -> str:
    for part in SPACES:
        text = text.replace(part, part.strip())
    return text


def _check(number: int, text: Text) -> None:
    for part in text if isinstance(text, tuple) else (text,):
        if not isinstance(part, str):
            raise InputError(f"Text {number}: expected a string or a pair of strings, got {shown(text)}.")
        if len(part) > MAX_CHARACTERS:
            raise InputError(
                f"Text {number} has {len(part):,} characters, more than the {MAX_CHARACTERS:,} that are read at once. "
                "Cut it into parts."
            )
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Text {number} is not Unicode text: {part[error.start]!r} at character {error.start} is half of a "
                "pair of surrogates. Leave it out, or decode the text again with the right encoding."
            ) from error


def _start(text: Text) -> str:
    joined = " / ".join(text) if isinstance(text, tuple) else text
    return joined if len(joined) <= 60 else joined[:59] + "…"
