"""What a tokenizer needs of the library behind it: a few operations, whichever library does them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from triform.errors import InputError

Text = str | tuple[str, str]
"""A text, or a pair of texts."""

Side = Literal["left", "right"]
"""Where a text is cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The tokens of a text or pair. n tokens; see `EncodedText` for what each field holds."""

    ids: Sequence[int]
    token_type_ids: Sequence[int]
    tokens: Sequence[str]
    characters: Sequence[tuple[int, int]]
    sequence_ids: Sequence[int | None]
    words: Sequence[int | None]


class Backend(Protocol):
    """Text → tokens and back. Never changes once built, so that threads may share it."""

    def encode(self, texts: Sequence[Text], *, special_tokens: bool) -> list[Tokens]:
        """Encode texts, or pairs of texts, each in the template's special tokens where these are wanted."""
        ...

    def encode_cut(
        self, text: Text, *, max_length: int, special_tokens: bool, side: Side = "right", only_first: bool = False
    ) -> Tokens:
        """Encode a text that is too long: cut the bare texts, then put the template round them.

        Arguments:
            side: where the texts are cut.
            only_first: leave the second text of a pair as it is.

        Raises:
            InputError: there is no room beside what stays.
        """
        ...

    def encode_rendered(self, text: str, spelled: Sequence[tuple[int, int]]) -> Tokens:
        """Encode a text that brings its special tokens, but for those at `spelled`, which are ordinary text.

        Arguments:
            text: what a chat template wrote.
            spelled: begin and end of each, ascending.
        """
        ...

    @property
    def of_answers(self) -> "Backend":
        """What encodes a text that the model is to write: itself, unless that has another vocabulary."""
        ...

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        """Ids → text."""
        ...

    def join(self, tokens: Iterable[str]) -> str:
        """Tokens, as the vocabulary writes them → text."""
        ...

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary, or None."""
        ...

    def token_of(self, id: int) -> str | None:
        """The token of an id, as the vocabulary writes it, or None."""
        ...

    @property
    def special_tokens(self) -> Collection[str]:
        """Those that are never said, such as the end of a text."""
        ...

    @property
    def marks_subwords(self) -> bool:
        """Whether the vocabulary marks a token that goes on with a word, as WordPiece does with ##."""
        ...


def shares(lengths: list[int], *, num_special: int, max_length: int, only_first: bool = False) -> list[int]:
    """How many tokens each text keeps: the longer one is cut first, then both alike, as `longest_first` does.

    Raises:
        InputError: there is no room beside what stays.
    """
    room = max_length - num_special
    if only_first and len(lengths) == 2:
        if room <= lengths[1]:
            raise InputError(
                f"{max_length} tokens leave no room for the first text beside {num_special} special tokens and "
                f"{lengths[1]} of the second text. Shorten the second text."
            )
        return [room - lengths[1], lengths[1]]
    if room < len(lengths):
        raise InputError(f"{max_length} tokens leave no room for text beside {num_special} special tokens.")
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    half = room // 2
    if min(first, second) <= half:
        return [first, room - first] if first <= second else [room - second, second]
    return [room - half, half] if first > second else [half, room - half]
