"""One comparison for all tokenizers: Triform beside transformers, on texts, pairs and decoding."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.inputs.hard_texts import PAIRS, TEXTS
from triform.errors import InputError
from triform.inputs import EncodedText, LongInput, Tokenizer


def encode(tokenizer: Tokenizer, text: str | tuple[str, str]) -> EncodedText | None:
    """Encode a text; return None for a text without tokens."""
    try:
        return tokenizer.encode([text])[0]
    except InputError:
        return None


def types_of(expected: Any) -> list[int]:
    """Return the token type ids that the model of the reference gets; without any it takes zeros."""
    types: list[int] = expected.get("token_type_ids", [0] * len(expected["input_ids"]))
    return types


def assert_equal(ours: Tokenizer, theirs: Any, *, more_texts: Iterable[str] = ()) -> None:
    """Compare ids, token type ids, characters, sequence ids, tokens, words and the decoded text."""
    everything: list[str | tuple[str, str]] = [*TEXTS, *more_texts, *PAIRS]
    for text in everything:
        expected = theirs(*text) if isinstance(text, tuple) else theirs(text)
        got = encode(ours, text)
        if got is None:
            assert expected["input_ids"] == [], text
            continue
        assert got.ids.tolist() == expected["input_ids"], text
        encoding = expected.encodings[0]
        assert got.token_type_ids.tolist() == types_of(expected), text
        assert [tuple(span) for span in got.characters.tolist()] == encoding.offsets, text
        assert list(got.sequence_ids) == encoding.sequence_ids, text
        assert list(got.tokens) == encoding.tokens, text
        assert list(got.words or ()) == encoding.word_ids, text
        for skip in (True, False):
            back = theirs.decode(expected["input_ids"], skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(got.ids.tolist(), skip_special_tokens=skip) == back, text


def assert_threads_agree(tokenizer: Tokenizer) -> None:
    """Compare eight concurrent threads with one thread, on whole and truncated texts."""
    lines = [f"{text} {number}" for number in range(20) for text in TEXTS]
    alone = [tokenizer.encode([line])[0].ids.tolist() for line in lines]

    def work(line: str) -> list[int]:
        whole: list[int] = tokenizer.encode([line])[0].ids.tolist()
        cut = tokenizer.encode([line], max_length=10, long_input=LongInput.TRUNCATE)[0]
        assert len(cut.ids) == min(10, len(whole))
        assert cut.dropped == len(whole) - len(cut.ids)
        tokenizer.decode(whole)
        return whole

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, lines)) == alone
