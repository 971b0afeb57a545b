"""Log-probabilities of tokens, as chat and completions write them."""

import math
from collections.abc import Sequence
from typing import Any

from triform.errors import NonFiniteError
from triform.generation import Score
from triform.inputs import TextStream, Tokenizer
from triform.serving.routes.generated_text import TokenText

IMPOSSIBLE = -9999.0
"""OpenAI's value for the probability 0."""


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenText]) -> list[dict[str, Any]]:
    """Write the tokens of a message; their texts joined are the content."""
    entries = []
    for token in tokens:
        assert token.log_probability is not None
        entry = _entry(tokenizer, token.id, token.log_probability)
        entry["token"] = token.text
        entry["top_logprobs"] = [_entry(tokenizer, id, value) for id, value in token.alternatives]
        entries.append(entry)
    return entries


def _entry(tokenizer: Tokenizer, id: int, log_probability: float) -> dict[str, Any]:
    own = tokenizer.bytes_of(id)
    return {"token": token_name(tokenizer, id), "logprob": written(log_probability), "bytes": list(own)}


def token_name(tokenizer: Tokenizer, id: int) -> str:
    """Name a token by its text, or by its bytes if it is a part of a character: two tokens have two names."""
    own = tokenizer.bytes_of(id)
    try:
        return own.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)


def written(log_probability: float) -> float:
    """Return a log-probability as JSON can hold it.

    Raises:
        NonFiniteError: it is NaN.
    """
    if math.isnan(log_probability):
        raise NonFiniteError("a log-probability is NaN")
    return max(log_probability, IMPOSSIBLE)


def prompt_tokens(tokenizer: Tokenizer, ids: Sequence[int], score: Score) -> list[TokenText]:
    """Return the tokens of a prompt with their shares of its text."""
    stream = TextStream(tokenizer)
    pieces = [stream.add(id) for id in ids]
    pieces[-1] += stream.finish()
    return [TokenText(*each) for each in zip(ids, pieces, score.log_probabilities, score.alternatives, strict=True)]


def completion_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenText], offset: int) -> dict[str, Any]:
    """Write the tokens of a completion.

    Arguments:
        tokenizer: of the model.
        tokens: the tokens; the first of a prompt has no log-probability.
        offset: characters of the text before the tokens.
    """
    names, values, best, offsets = [], [], [], []
    for token in tokens:
        name, value = token_name(tokenizer, token.id), token.log_probability
        names.append(name)
        values.append(None if value is None else written(value))
        # The chosen token is always among the best.
        others = {token_name(tokenizer, id): written(other) for id, other in token.alternatives}
        best.append(None if value is None else {**others, name: written(value)})
        offsets.append(offset)
        offset += len(token.text)
    return {"tokens": names, "token_logprobs": values, "top_logprobs": best, "text_offset": offsets}
