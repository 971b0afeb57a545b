"""The backend of the `tokenizers` library."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Self, cast

import tokenizers

from triform.errors import InputError, TokenizerError, TriformError
from triform.inputs.text.backend import Side, Text, Tokens, shares
from triform.inputs.text.token_bytes import byte_level, inside_text, spelled_byte

NEAR = 16
"""Tokens behind a cut that are encoded with the tokens before it."""

MAX_CUTS = 100_000
"""The most pairs of pieces that a cut may leave over."""

Row = tuple[int, str, tuple[int, int]]
"""Id, token, and its (begin, end) in the text."""


@contextmanager
def damage_in(files: str) -> Iterator[None]:
    """Report any failure of a library as damage in its files, except a lack of memory.

    The libraries raise nothing more precise than Exception, and a panic of Rust is not even an Exception.

    Raises:
        TokenizerError: naming the files.
    """
    try:
        yield
    except (TriformError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise TokenizerError(f"{files} is damaged: {error}. Fetch it again.") from error


class LibraryBackend:
    """A `tokenizers.Tokenizer`. Threads may share it: truncation and padding are never set on it."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[Text], *, special_tokens: bool) -> list[Tokens]:
        with damage_in("The tokenizer"):
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
        return [_tokens(encoding, encoding.sequence_ids) for encoding in encodings]

    def lowercased(self) -> Self:
        own, lowercase = self._tokenizer.normalizer, tokenizers.normalizers.Lowercase()
        parts: list[Any] = [own]
        if own is None or isinstance(own, tokenizers.normalizers.Sequence):
            parts = [] if own is None else list(cast(Iterable[Any], own))
        if any(isinstance(part, tokenizers.normalizers.Lowercase) for part in parts):
            return self
        changed = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        changed.normalizer = tokenizers.normalizers.Sequence([lowercase, *parts])
        return type(self)(changed)

    @property
    def of_answers(self) -> Self:
        return self

    def encode_cut(
        self, text: Text, *, max_length: int, special_tokens: bool, side: Side = "right", only_first: bool = False
    ) -> Tokens:
        parts = text if isinstance(text, tuple) else (text,)
        num_special = self._tokenizer.num_special_tokens_to_add(len(parts) == 2) if special_tokens else 0
        bare = [self._tokenizer.encode(part, add_special_tokens=False) for part in parts]
        lengths = [len(encoding.ids) for encoding in bare]
        kept = shares(lengths, num_special=num_special, max_length=max_length, only_first=only_first)
        if side == "right":
            bare = [self._near_cut(*each) for each in zip(parts, bare, kept, strict=True)]
        elif math.prod(-(-length // max(share, 1)) for length, share in zip(lengths, kept, strict=True)) > MAX_CUTS:
            raise InputError(
                f"A pair of texts of {lengths[0]:,} and {lengths[-1]:,} tokens is too long to be cut at the left to "
                f"{max_length}. Shorten the texts."
            )
        for encoding, share in zip(bare, kept, strict=True):
            encoding.truncate(share, direction=side)
        pair = bare[1] if len(bare) == 2 else None
        cut = self._tokenizer.post_process(bare[0], pair, add_special_tokens=special_tokens)
        # After a cut the library does not know the text of a token; the tokens of the first text come first.
        origins = iter([sequence for sequence, encoding in enumerate(bare) for _ in encoding.ids])
        return _tokens(cut, [None if is_special else next(origins) for is_special in cut.special_tokens_mask])

    def _near_cut(self, text: str, whole: tokenizers.Encoding, share: int) -> tokenizers.Encoding:
        """Return an encoding with the same first `share` tokens as `whole`, and few others.

        The library keeps the pieces that a cut leaves over, and of a pair each piece beside each other one.
        """
        ids, offsets = whole.ids, whole.offsets
        room = 2 * share + NEAR
        while room < len(ids):
            near = self._tokenizer.encode(text[: offsets[room - 1][1]], add_special_tokens=False)
            if (near.ids[:share], near.offsets[:share]) == (ids[:share], offsets[:share]) and len(near.ids) >= share:
                return near
            room *= 2
        return whole

    def encode_rendered(self, text: str, spelled: Sequence[tuple[int, int]]) -> Tokens:
        rows: list[Row] = []
        begin = 0
        with damage_in("The tokenizer"):
            for left, right in spelled:
                rows += self._stretch(text, begin, left) + self._spell(text, left, right)
                begin = right
            rows += self._stretch(text, begin, len(text))
        return Tokens(
            ids=[row[0] for row in rows],
            token_type_ids=[0] * len(rows),
            tokens=[row[1] for row in rows],
            characters=[row[2] for row in rows],
            sequence_ids=[0] * len(rows),
            words=[None] * len(rows),
        )

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        with damage_in("The tokenizer"):
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def join(self, tokens: Iterable[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def id_of(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def token_of(self, id: int) -> str | None:
        found: str | None = self._tokenizer.id_to_token(id)
        return found

    @cached_property
    def num_ids(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def token_bytes(self, token: str) -> bytes | None:
        if "ByteLevel" in self._decoders:
            return byte_level(token)
        byte = spelled_byte(token) if "ByteFallback" in self._decoders else None
        return self._inside_text(token) if byte is None else byte

    @cached_property
    def _decoders(self) -> frozenset[str]:
        """The types of the decoder and of its parts."""
        decoder = self._tokenizer.decoder
        state = {} if decoder is None else json.loads(decoder.__getstate__())
        return frozenset(part["type"] for part in (state, *state.get("decoders", ())) if part)

    @cached_property
    def _inside_text(self) -> Callable[[str], bytes | None]:
        return inside_text(self.join)

    @cached_property
    def special_tokens(self) -> frozenset[str]:
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset(token.content for token in added if token.special)

    @property
    def marks_subwords(self) -> bool:
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    @property
    def is_bpe(self) -> bool:
        return type(self._tokenizer.model).__name__ == "BPE"

    def _stretch(self, text: str, begin: int, end: int) -> list[Row]:
        """Encode part of a text; a part behind the beginning after a line break, or it would get a space before it."""
        if 0 < begin < end:
            line_break = self._rows("\n", begin - 1)
            rows = self._rows("\n" + text[begin:end], begin - 1)
            if [row[0] for row in rows[: len(line_break)]] == [row[0] for row in line_break]:
                return rows[len(line_break) :]
        return self._rows(text[begin:end], begin)

    def _rows(self, text: str, begin: int) -> list[Row]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        spans = [(begin + left, begin + right) for left, right in found.offsets]
        return list(zip(found.ids, found.tokens, spans, strict=True))

    def _spell(self, text: str, begin: int, end: int) -> list[Row]:
        """Encode part of a text as pieces of the vocabulary, even where an added token has the same letters."""
        line_break, rows = self._pieces("\n"), self._pieces("\n" + text[begin:end])
        if begin == 0 or rows[: len(line_break)] != line_break:
            line_break, rows = [], self._pieces(text[begin:end])
        return [(id, token, (begin, end)) for id, token in rows[len(line_break) :]]

    def _pieces(self, text: str) -> list[tuple[int, str]]:
        normalizer, cutter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        words = [normal] if cutter is None else [word for word, _ in cutter.pre_tokenize_str(normal)]
        return [(piece.id, piece.value) for word in words for piece in self._tokenizer.model.tokenize(word)]


def _tokens(encoding: tokenizers.Encoding, sequence_ids: Sequence[int | None]) -> Tokens:
    return Tokens(
        ids=encoding.ids,
        token_type_ids=encoding.type_ids,
        tokens=encoding.tokens,
        characters=encoding.offsets,
        sequence_ids=sequence_ids,
        words=encoding.word_ids,
    )
