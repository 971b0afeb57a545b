"""What an answer has cost: tokens read, found in the cache and written, and the times."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from triform.generation import Request
from triform.serving.tokens import Tokens


def num_cached(requests: Sequence[Request], num_prompts: int) -> int:
    """Count the tokens of prompts found in the cache, each prompt once for all its answers."""
    return sum(request.num_cached_tokens for request in requests[:: len(requests) // num_prompts])


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Write the usage of chat and completions."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def timings(tokens: Tokens, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Write the times of a generation, in milliseconds: of reading the prompt, and of writing."""
    now = monotonic()
    first = tokens.first_time or now
    begin = tokens.job.started or tokens.job.arrived
    return {
        "cache_n": cached_tokens,
        "prompt_n": prompt_tokens - cached_tokens,
        "prompt_ms": round((first - begin) * 1e3, 3),
        "predicted_n": completion_tokens,
        "predicted_ms": round((now - first) * 1e3, 3),
    }
