"""Constrained decoding, by grammars that answers follow: JSON Schemas, regular expressions, choices, and Lark grammars.

The `llguidance` library compiles a grammar and computes which tokens may come next. It is imported with the first
grammar, and reads the vocabulary as bytes, so any tokenizer will do. End tokens are left to the scheduler.
"""

import json
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from triform.errors import InputError, shown
from triform.generation.json_schema import check_schema, compile_error, summary
from triform.generation.patterns import check_pattern
from triform.inputs import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_BYTES = 2**16
"""Most bytes of a schema, a pattern, all choices, or a Lark grammar."""
WHITE_SPACE = r"[ \n\r\t]{0,8}"
"""White space of JSON between two of its signs. Without a limit a model may write nothing else to its last token."""
MAX_SYMBOLS, MAX_LEXER_STATES, STEP_FUEL = 20_000, 50_000, 100_000
"""Limits of llguidance: symbols of a grammar, states of its lexer of 1 to 2 kB each, and the work of one step."""

NUM_SPLIT = 128
"""Most forced bytes to split into tokens at a time."""


class Grammar:
    """A compiled grammar for the vocabulary of a tokenizer. It never changes, so requests and threads may share it."""

    def __init__(self, source: str, tokenizer: Tokenizer, name: str) -> None:
        self._vocabulary = _vocabulary_of(tokenizer)
        self._source = source
        self._start = self._compiled()
        self._start.compute_bitmask()  # with the states of the lexer that every answer begins with
        if self._start.is_error():
            raise compile_error(name, self._start.get_error())
        forced = self._start.compute_ff_bytes()
        can_begin = not forced or self._vocabulary.tokenize_bytes(forced)
        if not (can_begin and self.matcher().allowed(self.num_tokens).any()):
            raise InputError(
                f"{name}: only the empty text follows it, or the tokenizer has no token with which such a text could "
                "begin. Choose another model, or change it."
            )

    @classmethod
    def of_json_schema(cls, schema: Any, tokenizer: Tokenizer) -> "Grammar":
        """Compile a JSON Schema. Answers have properties in the order of the schema.

        Arguments:
            schema: an object, or true for any JSON.
            tokenizer: the tokenizer of the model's answers.

        Raises:
            InputError: no schema, a schema that is too large, or a keyword that cannot be enforced whole.
        """
        library = _library()
        checked = check_schema(schema, MAX_BYTES)
        overrides = {"whitespace_pattern": WHITE_SPACE, "lenient": False, "coerce_one_of": False}
        try:
            source = library.LLMatcher.grammar_from_json_schema(checked, overrides=overrides)
        except ValueError as error:
            raise compile_error("schema", str(error)) from error
        return cls(source, tokenizer, "schema")

    @classmethod
    def of_json_object(cls, tokenizer: Tokenizer) -> "Grammar":
        """Compile the grammar of all JSON objects; errors as in `of_json_schema`."""
        return cls.of_json_schema({"type": "object"}, tokenizer)

    @classmethod
    def of_regex(cls, pattern: str, tokenizer: Tokenizer) -> "Grammar":
        """Compile a regular expression in the syntax of Rust's `regex`. The whole answer matches.

        Raises:
            InputError: no expression, too long a one, or syntax that cannot be enforced, such as look-around.
        """
        _check_text("regex", pattern)
        check_pattern("regex", pattern)
        return cls(_library().LLMatcher.grammar_from_regex(pattern), tokenizer, "regex")

    @classmethod
    def of_choices(cls, texts: Sequence[str], tokenizer: Tokenizer) -> "Grammar":
        """Compile a list of texts, of which an answer is one.

        Raises:
            InputError: no list of texts, an empty text, or too many.
        """
        if (
            not isinstance(texts, list | tuple)
            or not texts
            or not all(isinstance(text, str) and text for text in texts)
        ):
            raise InputError(f"choices: expected a list of one or more texts, none empty, got {shown(texts)}.")
        _check_text("choices", "".join(texts))
        return cls.of_lark("start: " + " | ".join(map(json.dumps, texts)), tokenizer, name="choices")

    @classmethod
    def of_lark(cls, text: str, tokenizer: Tokenizer, *, name: str = "grammar") -> "Grammar":
        """Compile a grammar in the Lark syntax of llguidance; `name` is its name in errors.

        Raises:
            InputError: no grammar, too long a one, or one with errors.
        """
        _check_text(name, text)
        return cls(_library().LLMatcher.grammar_from_lark(text), tokenizer, name)

    @property
    def num_tokens(self) -> int:
        """The tokens of the vocabulary; behind them stands the library's own end token."""
        return int(self._vocabulary.vocab_size) - 1

    def matcher(self) -> "Matcher":
        """Make a matcher at the beginning of an answer."""
        return Matcher(self, self._start.deep_copy(), [])

    def renew(self) -> "LLMatcher":
        """Compile the grammar again, for all later matchers too, and return a copy at the beginning of an answer.

        Copies share the states of a lexer and their limit. An answer that meets the limit begins with a new lexer, so
        that only an answer that needs more states alone can fail.
        """
        self._start = self._compiled()
        return self._start.deep_copy()

    def _compiled(self) -> "LLMatcher":
        library = _library()
        limits = library.LLParserLimits(
            max_grammar_size=MAX_SYMBOLS,
            max_lexer_states=MAX_LEXER_STATES,
            step_lexer_fuel=STEP_FUEL,
            verbose_errors=False,
        )
        return library.LLMatcher(self._vocabulary, self._source, log_level=0, limits=limits)


class Matcher:
    """The place of one answer in a grammar."""

    def __init__(self, grammar: Grammar, state: "LLMatcher", tokens: list[int]) -> None:
        self._grammar = grammar
        self._state = state
        self._tokens = tokens
        """The tokens of the answer."""

    def copy(self) -> "Matcher":
        """Copy the matcher, for another branch of the request."""
        return Matcher(self._grammar, self._state.deep_copy(), self._tokens.copy())

    def allowed(self, num_tokens: int) -> NDArray[np.bool_]:
        """Compute which of the tokens may come next: (num_tokens,) flags. End tokens of the model are not among them.

        Raises:
            InputError: the grammar is too complex at this place, or the tokenizer cannot write what it requires.
        """
        mask = self._state.compute_bitmask()
        if self._state.is_error():
            self._renew()
            mask = self._state.compute_bitmask()
        if self._state.is_error():
            raise InputError(
                "The answer cannot go on: the tokenizer has no tokens for what the grammar requires here, or it is too "
                f"complex ({summary(self._state.get_error())})."
            )
        size = min(num_tokens, self._grammar.num_tokens)
        allowed = np.zeros(num_tokens, np.bool_)
        allowed[:size] = np.unpackbits(np.frombuffer(mask, np.uint8), count=size, bitorder="little")
        return allowed

    @property
    def may_end(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._state.is_accepting())

    def accept(self, token: int) -> bool:
        """Append a token to the answer, and return whether the grammar is finished: no token can follow."""
        self._tokens.append(token)
        if not self._state.consume_token(token):
            self._renew()
        return bool(self._state.is_stopped() and not self._state.is_error())

    def _renew(self) -> None:
        self._state = self._grammar.renew()
        self._state.consume_tokens(self._tokens)


class _Library(Protocol):
    """What is used of llguidance."""

    LLMatcher: Any
    LLParserLimits: Any
    LLTokenizer: Any
    TokenizerWrapper: Any


class _Vocabulary:
    """The vocabulary of a tokenizer as llguidance reads it, with an end token behind the tokens of the model."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = [*tokens, b"<end>"]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [self.eos_token_id]
        self._ids = {token: id for id, token in reversed(list(enumerate(tokens))) if token}
        self._longest = max(map(len, tokens), default=0)

    def __call__(self, text: bytes) -> list[int]:
        """Split bytes that a grammar forces into tokens, the longest first; without a split the result is empty.

        The bytes limit the choice of the next token, so tokens far behind have no influence.
        """
        goal = min(len(text), NUM_SPLIT)
        ends = {place: place for place in range(goal, min(goal + self._longest, len(text)) + 1)}
        for begin in reversed(range(goal)):
            for end in range(min(begin + self._longest, len(text)), begin, -1):
                if end in ends and text[begin:end] in self._ids:
                    ends[begin] = end
                    break
        ids, begin = [], 0
        while begin < goal and begin in ends:
            ids.append(self._ids[text[begin : ends[begin]]])
            begin = ends[begin]
        return ids


_vocabularies: "WeakKeyDictionary[Tokenizer, LLTokenizer]" = WeakKeyDictionary()
_lock = Lock()


def _vocabulary_of(tokenizer: Tokenizer) -> "LLTokenizer":
    library = _library()
    with _lock:
        if tokenizer not in _vocabularies:
            wrapper = library.TokenizerWrapper(_Vocabulary(tokenizer.bytes_of_tokens()))
            _vocabularies[tokenizer] = library.LLTokenizer(wrapper)
        return _vocabularies[tokenizer]


def _library() -> _Library:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise InputError(
            "Grammars need llguidance, which is not installed. Install it with: pip install 'triform[serve-json]'."
        ) from error
    library: _Library = llguidance
    return library


def _check_text(name: str, text: object) -> None:
    """Refuse a value of another type, an empty or too long text, and a text with halves of surrogate pairs.

    Raises:
        InputError: naming the argument.
    """
    if not isinstance(text, str) or not text:
        raise InputError(f"{name}: expected a text, got {shown(text)}.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: character {error.start} is half of a pair of surrogates. Leave it out.") from error
    if size > MAX_BYTES:
        raise InputError(f"{name}: {size:,} bytes are more than the {MAX_BYTES:,} that are compiled. Shorten it.")
