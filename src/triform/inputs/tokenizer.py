"""Text → tokens and ids, through the `tokenizers` library; and back."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import tokenizers

from triform.errors import InputError, TokenizerError
from triform.hub import TOKENIZER_FILES, Checkpoint
from triform.inputs.batch import EncodedText

NO_LIMIT = 10**9
"""A `model_max_length` above this is how tokenizer_config.json says that there is none."""


class LongInput(StrEnum):
    """What to do with text of more tokens than fit."""

    ERROR = "error"
    TRUNCATE = "truncate"
    """Cut the end off, of the longer text of a pair first, and count what is dropped."""


class Tokenizer:
    """A checkpoint's tokenizer. Safe to share between threads: truncation and padding are never set on it."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, settings: dict[str, Any]) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._settings = settings
        limit = settings.get("model_max_length")
        self.max_length: int | None = int(limit) if isinstance(limit, int | float) and limit < NO_LIMIT else None
        """The most tokens of a sequence that tokenizer_config.json allows; None where it sets no limit."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "Tokenizer":
        """Read tokenizer.json, and what tokenizer_config.json and special_tokens_map.json add to it.

        Raises:
            TokenizerError: there is none, or it is damaged.
        """
        path = checkpoint.folder / "tokenizer.json"
        if not path.is_file():
            others = [name for name in TOKENIZER_FILES if checkpoint.has(name)]
            found = f"It brings {', '.join(others)}, which this version does not read. " if others else ""
            raise TokenizerError(
                f"{checkpoint.folder} has no tokenizer.json. {found}"
                "Save the tokenizer there with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(folder)."
            )
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise TokenizerError(f"{path} is damaged: {error}. Fetch the file again.") from error
        settings: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if checkpoint.has(name):
                settings.update(checkpoint.read_object(name))
        return cls(tokenizer, settings)

    def encode(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        max_length: int | None = None,
        long_input: LongInput = LongInput.ERROR,
        special_tokens: bool = True,
    ) -> list[EncodedText]:
        """Encode texts, or pairs of texts.

        Arguments:
            texts: each a string or a pair of strings.
            max_length: the most tokens of one sequence, special ones included.
            long_input: what to do with longer ones.
            special_tokens: whether to add those of the tokenizer's template.

        Raises:
            InputError: something else than text, text without a token, or too long a text.
        """
        for number, text in enumerate(texts):
            parts = text if isinstance(text, tuple) else (text,)
            if not all(isinstance(part, str) for part in parts):
                raise InputError(f"Text {number}: expected a string or a pair of strings, got {text!r}.")
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
        encoded = []
        for number, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            length = len(encoding.ids)
            if not length:
                raise InputError(f"Text {number} is empty: {text!r} has no token. Leave it out.")
            if max_length is not None and length > max_length:
                if long_input is LongInput.ERROR:
                    raise InputError(
                        f"Text {number} has {length} tokens, more than the {max_length} that fit: {_start(text)!r}. "
                        'Shorten it, or allow the end to be cut off with long_input="truncate".'
                    )
                encoded.append(self._truncated(text, max_length, special_tokens, length))
            else:
                encoded.append(_encoded(text, encoding, encoding.sequence_ids))
        return encoded

    def _truncated(
        self, text: str | tuple[str, str], max_length: int, special_tokens: bool, length: int
    ) -> EncodedText:
        """Cut the bare texts, then let the tokenizer put its template round them, so that segment ids stay right."""
        parts = text if isinstance(text, tuple) else (text,)
        num_special = self._tokenizer.num_special_tokens_to_add(len(parts) == 2) if special_tokens else 0
        room = max_length - num_special
        if room < len(parts):
            raise InputError(f"{max_length} tokens leave no room for text beside {num_special} special tokens.")
        bare = [self._tokenizer.encode(part, add_special_tokens=False) for part in parts]
        for encoding, share in zip(bare, _shares([len(b.ids) for b in bare], room), strict=True):
            encoding.truncate(share)
        pair = bare[1] if len(bare) == 2 else None
        cut = self._tokenizer.post_process(bare[0], pair, add_special_tokens=special_tokens)
        # The library forgets which text a token is from when it cuts: the first text's come first.
        origins = iter([source for source, encoding in enumerate(bare) for _ in encoding.ids])
        sources = [None if is_special else next(origins) for is_special in cut.special_tokens_mask]
        return _encoded(text, cut, sources, dropped=length - len(cut.ids))

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Ids → text."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def join(self, tokens: Iterable[str]) -> str:
        """Tokens, as the vocabulary writes them → text."""
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    @property
    def marks_subwords(self) -> bool:
        """Whether the vocabulary marks a token that goes on with a word, as WordPiece does with ##."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary, or None."""
        return self._tokenizer.token_to_id(token)

    def special(self, role: str) -> str | None:
        """The special token of a role, such as "mask_token", or None."""
        token = self._settings.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        return content if isinstance(content, str) else None


def _shares(lengths: list[int], room: int) -> list[int]:
    """How many tokens each text keeps: the longer one is cut first, then both alike, as `longest_first` does."""
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    half = room // 2
    if min(first, second) <= half:
        return [first, room - first] if first <= second else [room - second, second]
    return [room - half, half] if first > second else [half, room - half]


def _encoded(
    text: str | tuple[str, str], encoding: tokenizers.Encoding, sources: Sequence[int | None], dropped: int = 0
) -> EncodedText:
    first, pair = text if isinstance(text, tuple) else (text, None)
    return EncodedText(
        text=first,
        pair=pair,
        ids=np.array(encoding.ids, np.int64),
        segment_ids=np.array(encoding.type_ids, np.int64),
        tokens=tuple(encoding.tokens),
        characters=np.array(encoding.offsets, np.int64).reshape(-1, 2),
        sources=tuple(sources),
        dropped=dropped,
    )


def _start(text: str | tuple[str, str]) -> str:
    joined = " / ".join(text) if isinstance(text, tuple) else text
    return joined if len(joined) <= 60 else joined[:59] + "…"
