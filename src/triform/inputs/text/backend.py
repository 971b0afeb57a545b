"""The interface between `Tokenizer` and a tokenizer library."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from triform.errors import InputError

Text = str | tuple[str, str]
"""A text, or a pair of texts."""

Side = Literal["left", "right"]
"""The end at which a text is cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The n tokens of a text or pair; the fields are explained in `EncodedText`."""

    ids: Sequence[int]
    token_type_ids: Sequence[int]
    tokens: Sequence[str]
    characters: Sequence[tuple[int, int]]
    sequence_ids: Sequence[int | None]
    words: Sequence[int | None]


class Backend(Protocol):
    """Text → tokens and back. A backend never changes once built, so threads may share it."""

    def encode(self, texts: Sequence[Text], *, special_tokens: bool) -> list[Tokens]:
        """Encode texts or pairs of texts, with the template's special tokens if `special_tokens` is set."""
        ...

    def encode_cut(
        self, text: Text, *, max_length: int, special_tokens: bool, side: Side = "right", only_first: bool = False
    ) -> Tokens:
        """Encode a text of more than `max_length` tokens: cut the bare texts, then add the template's special tokens.

        Arguments:
            side: the end at which the texts are cut.
            only_first: leave the second text of a pair as it is.

        Raises:
            InputError: the special tokens, or the second text, leave no room.
        """
        ...

    def encode_rendered(self, text: str, spelled: Sequence[tuple[int, int]]) -> Tokens:
        """Encode a text that contains its special tokens; the letters at `spelled` are ordinary text.

        Arguments:
            text: the output of a chat template.
            spelled: begin and end of each, ascending.
        """
        ...

    def lowercased(self) -> "Backend":
        """Return a backend that turns text to lower case before all other normalization.

        Raises:
            TokenizerError: the backend cannot.
        """
        ...

    @property
    def of_answers(self) -> "Backend":
        """The backend for texts that the model writes; another one where they have a vocabulary of their own."""
        ...

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        """Ids → text."""
        ...

    def join(self, tokens: Iterable[str]) -> str:
        """Tokens in the spelling of the vocabulary → text."""
        ...

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary, or None."""
        ...

    def token_of(self, id: int) -> str | None:
        """Token of an id in the spelling of the vocabulary, or None."""
        ...

    @property
    def num_ids(self) -> int:
        """The number of ids: the greatest id of a token, and one."""
        ...

    def token_bytes(self, token: str) -> bytes | None:
        """The bytes that a token adds inside a text, or None."""
        ...

    @property
    def special_tokens(self) -> Collection[str]:
        """Tokens that are not part of any text, such as the end of a text."""
        ...

    @property
    def marks_subwords(self) -> bool:
        """True if the vocabulary marks tokens that continue a word, as WordPiece does with ##."""
        ...

    @property
    def is_bpe(self) -> bool:
        """True if the vocabulary was made by byte-pair encoding."""
        ...


def shares(lengths: list[int], *, num_special: int, max_length: int, only_first: bool = False) -> list[int]:
    """Divide `max_length` among the texts: the longer text is cut first, then both alike (`longest_first`).

    Raises:
        InputError: the special tokens, or the second text, leave no room.
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
