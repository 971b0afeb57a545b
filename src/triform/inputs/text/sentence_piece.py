"""SentencePiece models: a string with its spaces → pieces. Kudo and Richardson 2018, "SentencePiece".

The `sentencepiece` library reads the file, normalises and splits; it is imported when the first such model is opened.
This module adds the rest: added tokens, the special tokens around a text, and a vocabulary with other ids.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import tokenizers

from triform.errors import TokenizerError
from triform.inputs.text.backend import Side, Text, Tokens, shares
from triform.inputs.text.token_bytes import inside_text, spelled_byte

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

Token = tuple[int, str, tuple[int, int]]
"""Id, token, and its (begin, end) in its text."""

NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"
"""Appended to a model file's bytes: normalizer_spec { add_dummy_prefix: false }. Protobuf merges repeated messages."""

SPACE = "▁"
"""The space before a piece, as pieces write it."""

TEXT = "$"
"""The place of the text in a template."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """The special tokens before and after `TEXT`, in order."""

    single: tuple[str, ...]
    pair: tuple[tuple[str, ...], tuple[str, ...]]
    """Around the first text, and around the second."""
    pair_segment: int = 0
    """The token type id of the second text and of the special tokens around it."""

    def num_special(self, *, pair: bool) -> int:
        return sum(map(len, self.pair)) - 2 if pair else len(self.single) - 1


@dataclass(frozen=True, kw_only=True)
class SentencePieceBackend:
    """A SentencePiece model with its added tokens, its template and its ids."""

    first: "SentencePieceProcessor"
    """Splits the beginning of a text."""
    rest: "SentencePieceProcessor"
    """Splits the text behind an added token: the same model, or a model that adds no space."""
    ids: Mapping[str, int]
    """The id of every token, added tokens included."""
    tokens: Mapping[int, str]
    """The token of every id that a model may write."""
    unknown: str
    """The token of pieces that `ids` does not have."""
    own_ids: bool
    """True if the ids of the pieces are the ids of the model file."""
    added: tuple[tokenizers.AddedToken, ...]
    """Tokens that are never split."""
    template: Template
    trims_spaces: bool
    """True if the characters of a token exclude the spaces before it."""
    joined: Callable[[list[str]], str]
    """Pieces → text."""
    splits_special: bool = False
    """True if the letters of a special token in a text are ordinary text (`split_special_tokens`)."""
    is_bpe: bool = False
    answering: "SentencePieceProcessor | None" = None
    """Splits the texts that the model writes, where they are in another language."""
    opening: re.Pattern[str] | None = None
    """Pattern of a token that is kept whole at the beginning of a text, known or not."""

    def encode(self, texts: Sequence[Text], *, special_tokens: bool) -> list[Tokens]:
        return [self._with_template([self._cut(part) for part in _parts(text)], special_tokens) for text in texts]

    def encode_cut(
        self, text: Text, *, max_length: int, special_tokens: bool, side: Side = "right", only_first: bool = False
    ) -> Tokens:
        bare = [self._cut(part) for part in _parts(text)]
        num_special = self.template.num_special(pair=len(bare) == 2) if special_tokens else 0
        lengths = [len(tokens) for tokens in bare]
        kept = shares(lengths, num_special=num_special, max_length=max_length, only_first=only_first)
        cut = [
            tokens[:share] if side == "right" else tokens[len(tokens) - share :]
            for tokens, share in zip(bare, kept, strict=True)
        ]
        return self._with_template(cut, special_tokens)

    def encode_rendered(self, text: str, spelled: Sequence[tuple[int, int]]) -> Tokens:
        return self._with_template([self._cut(text, spelled)], special_tokens=False)

    def lowercased(self) -> "SentencePieceBackend":
        raise TokenizerError(
            "do_lower_case: a tokenizer of SentencePiece has its own normalization. Add tokenizer.json."
        )

    @property
    def of_answers(self) -> "SentencePieceBackend":
        if self.answering is None:
            return self
        ids = {token: number for number, token in self.tokens.items()}
        return replace(self, first=self.answering, rest=self.answering, ids=ids, opening=None)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        found = [self.tokens[number] for number in ids if number in self.tokens]
        return self.join(token for token in found if not (skip_special_tokens and token in self.special_tokens))

    def join(self, tokens: Iterable[str]) -> str:
        return self.joined(list(tokens))

    def id_of(self, token: str) -> int | None:
        return self.ids.get(token)

    def token_of(self, id: int) -> str | None:
        return self.tokens.get(id)

    @property
    def num_ids(self) -> int:
        return max(self.tokens, default=-1) + 1

    def token_bytes(self, token: str) -> bytes | None:
        byte = None if token in self._whole_tokens else spelled_byte(token)
        return self._inside_text(token) if byte is None else byte

    @cached_property
    def _inside_text(self) -> Callable[[str], bytes | None]:
        return inside_text(self.join)

    @cached_property
    def special_tokens(self) -> frozenset[str]:
        return frozenset(token.content for token in self.added if token.special)

    @cached_property
    def _whole_tokens(self) -> frozenset[str]:
        return frozenset(token.content for token in self.added)

    @cached_property
    def _added_pattern(self) -> re.Pattern[str] | None:
        return _pattern(token for token in self.added if not (self.splits_special and token.special))

    @property
    def marks_subwords(self) -> bool:
        return False  # the mark is on the token that begins a word

    def _with_template(self, bare: list[list[Token]], special_tokens: bool) -> Tokens:
        """Add the special tokens of the template to the tokens of a text or a pair."""
        template = self.template.pair if len(bare) == 2 else (self.template.single,)
        rows: list[tuple[Token, int, int | None]] = []
        for sequence, (tokens, names) in enumerate(zip(bare, template, strict=True)):
            segment = sequence * self.template.pair_segment
            for name in names if special_tokens else (TEXT,):
                if name == TEXT:
                    rows += [(token, segment, sequence) for token in tokens]
                else:
                    rows.append(((self.ids[name], name, (0, 0)), segment, None))
        return Tokens(
            ids=[token[0] for token, _, _ in rows],
            token_type_ids=[segment for _, segment, _ in rows],
            tokens=[token[1] for token, _, _ in rows],
            characters=[token[2] for token, _, _ in rows],
            sequence_ids=[sequence for _, _, sequence in rows],
            words=self._words([token[1] for token, _, _ in rows], [sequence for _, _, sequence in rows]),
        )

    def _words(self, tokens: list[str], sequence_ids: list[int | None]) -> list[int | None]:
        """Number the words: a word begins with the mark of a space, or at an added token."""
        words: list[int | None] = []
        numbers: dict[int, int] = {}
        for token, sequence in zip(tokens, sequence_ids, strict=True):
            begins = token.startswith(SPACE) or token in self._whole_tokens or sequence not in numbers
            if sequence is not None and begins:
                numbers[sequence] = numbers.get(sequence, -1) + 1
            words.append(None if sequence is None else numbers[sequence])
        return words

    def _cut(self, text: str, spelled: Sequence[tuple[int, int]] = ()) -> list[Token]:
        """Split a text into tokens, without special tokens around it."""
        tokens: list[Token] = []
        for begin, end, added in _split(text, self._added_pattern, spelled):
            if added is not None:
                tokens.append(self._whole(added, begin, end))
                continue
            opening = None if self.opening is None else self.opening.match(text, begin, end)
            if opening:
                tokens.append(self._whole(opening.group(), begin, opening.end()))
            tokens += self._pieces(text, opening.end() if opening else begin, end)
        return tokens

    def _whole(self, token: str, begin: int, end: int) -> Token:
        return self.ids.get(token, self.ids[self.unknown]), token, (begin, end)

    def _pieces(self, text: str, begin: int, end: int) -> list[Token]:
        processor = self.rest if begin else self.first
        found = processor.encode(text[begin:end], out_type="offset_mapping")
        pieces: list[str] = found["pieces"]
        unknown = self.ids[self.unknown]
        ids: list[int] = found["ids"] if self.own_ids else [self.ids.get(piece, unknown) for piece in pieces]
        spans = [(begin + left, begin + right) for left, right in found["offsets"]]
        return list(zip(ids, pieces, self._characters(text, spans), strict=True))

    def _characters(self, text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Give every piece a character.

        The library gives a character of several pieces, such as the bytes of 猫, to the last piece, and no character
        to an inserted space; such pieces get the next character.
        """
        out = []
        for left, right in spans:
            begin = right - len(text[left:right].lstrip()) if self.trims_spaces else left
            out.append((begin, min(begin + 1, len(text)) if begin == right else right))
        return out


def _parts(text: Text) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _split(
    text: str, pattern: re.Pattern[str] | None, spelled: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, str | None]]:
    """Yield (begin, end, token) of the added tokens and of the stretches between them, whose token is None."""
    begin, letters = 0, set(spelled)
    for match in pattern.finditer(text) if pattern else ():
        if match.span(match.lastindex or 0) in letters:
            continue
        if begin < match.start():
            yield begin, match.start(), None
        yield match.start(), match.end(), match[match.lastindex or 0]
        begin = match.end()
    if begin < len(text):
        yield begin, len(text), None


def _pattern(added: Iterable[tokenizers.AddedToken]) -> re.Pattern[str] | None:
    """Compile a pattern of all added tokens, each a group, with the spaces that a token absorbs."""

    def one(token: tokenizers.AddedToken) -> str:
        pattern = f"({re.escape(token.content)})"
        if token.single_word:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        return (r"\s*" if token.lstrip else "") + pattern + (r"\s*" if token.rstrip else "")

    # The longer of two tokens that begin alike is meant.
    longest_first = sorted(added, key=lambda token: -len(token.content))
    return re.compile("|".join(map(one, longest_first))) if longest_first else None
