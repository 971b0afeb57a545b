"""The text of one generated answer, as its tokens come: the same for answers in events and for whole ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from triform.generation import FinishReason, GeneratedToken
from triform.inputs import StoppedText, TextStream, Tokenizer

CONTEXT_TOKENS = 16
"""Tokens before an answer that decide how its first tokens are decoded, several times the longest character."""


class TokenText(NamedTuple):
    """A token with its share of the text; the shares of all tokens joined are the text."""

    id: int
    text: str
    log_probability: float | None
    alternatives: Sequence[tuple[int, float]] = ()
    """The most probable tokens, (id, log-probability), best first."""


@dataclass(kw_only=True)
class GeneratedText:
    """One answer. `add` gives out text once it is certain: no half character, and no part of a stop string.

    Arguments:
        tokenizer: of the model.
        stops: the stop strings.
        end_tokens: ids that end the answer and are not part of the text.
        before: the ids before the answer, if the answer continues their text.
        shown: special tokens that are part of the text, such as the mark before a call of a tool.
    """

    tokenizer: Tokenizer
    stops: Sequence[str] = ()
    end_tokens: Collection[int] = ()
    before: Sequence[int] = ()
    shown: Collection[str] = ()
    finish_reason: FinishReason | None = None
    """The reason of the end, once it has ended."""
    num_tokens: int = 0
    """Tokens that the model has written, an end token included."""
    text: str = ""
    """The text given out so far."""
    tokens: list[TokenText] = field(default_factory=list)
    """The tokens of the text given out, not yet taken by `take_tokens`."""
    _waiting: list[TokenText] = field(default_factory=list)
    """Tokens whose text is not given out yet."""
    _num_given: int = 0
    """Characters of `text` that belong to tokens given out."""

    def __post_init__(self) -> None:
        self._stopped = StoppedText(self.stops)
        self._stream = TextStream(self.tokenizer)
        for id in self.before[-CONTEXT_TOKENS:]:
            self._stream.add(id)

    def add(self, token: GeneratedToken) -> str:
        """Add a token, and return the text that has become certain; it may be empty."""
        if self.finish_reason is not None:
            return ""  # a stop string has ended the text; the generator did not see it
        self.num_tokens += 1
        is_end = token.finish_reason is FinishReason.STOP and token.id in self.end_tokens
        piece = "" if is_end else self._decode(token.id)
        if token.finish_reason is not None:
            piece += self._stream.finish()
        if not is_end or (piece and not self._waiting):
            self._waiting.append(TokenText(token.id, piece, token.log_probability, token.alternatives))
        elif piece:
            last = self._waiting[-1]
            self._waiting[-1] = last._replace(text=last.text + piece)
        given = self._stopped.add(piece)
        if self._stopped.stop is not None:
            self.finish_reason = FinishReason.STOP
        elif token.finish_reason is not None:
            given += self._stopped.finish()
            self.finish_reason = token.finish_reason
        self.text += given
        self._release()
        return given

    def take_tokens(self) -> list[TokenText]:
        """Return the tokens of the text given out since the last call."""
        taken, self.tokens = self.tokens, []
        return taken

    def _decode(self, id: int) -> str:
        if self.shown and (name := self.tokenizer.token_of(id)) in self.shown:
            assert name is not None
            rest = self._stream.finish()
            self._stream = TextStream(self.tokenizer)
            return rest + name
        return self._stream.add(id)

    def _release(self) -> None:
        """Give out the tokens of `text`. One without text, such as half a character, waits for the next with text."""
        count, end = 0, self._num_given
        for number, token in enumerate(self._waiting):
            end += len(token.text)
            if end > len(self.text):
                break
            if token.text:
                count, self._num_given = number + 1, end
        released, self._waiting = self._waiting[:count], self._waiting[count:]
        if self.finish_reason is not None:
            rest = len(self.text) - self._num_given
            if self._stopped.stop is None:
                released += self._waiting
            elif rest:  # the stop string begins within a token
                number = next(number for number, token in enumerate(self._waiting) if token.text)
                released += [*self._waiting[:number], self._waiting[number]._replace(text=self.text[-rest:])]
            self._waiting = []
        self.tokens += released
