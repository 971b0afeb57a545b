"""Admission: bounds on the requests and tokens that the server holds, counted before any work is done."""

from time import monotonic

from triform.serving.errors import ApiError, overloaded

MEMORY_SECONDS = 30.0
"""How long a measurement of throughput counts."""


class Admission:
    """Counts requests and tokens that wait or run. Used on the thread of the event loop alone."""

    def __init__(self, max_requests: int, max_tokens: int) -> None:
        self.num_requests = 0
        self.num_tokens = 0
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._rate = 0.0
        """Tokens a second that have left, smoothed over `MEMORY_SECONDS`."""
        self._last = monotonic()

    def enter(self) -> None:
        """Count a request.

        Raises:
            ApiError: 429 with the expected wait.
        """
        if self.num_requests >= self._max_requests:
            raise overloaded(
                f"The server has {self.num_requests} requests, as many as it takes. Try again later.", self.wait()
            )
        self.num_requests += 1

    def leave(self) -> None:
        """Count a request out."""
        self.num_requests -= 1

    def take(self, num_tokens: int) -> None:
        """Count tokens of a request.

        Raises:
            ApiError: 400 if the request alone exceeds the bound; 429 with the expected wait.
        """
        if num_tokens > self._max_tokens:
            raise ApiError(
                400,
                f"The request has up to {num_tokens} tokens to read and write; the server takes {self._max_tokens}. "
                "Send fewer inputs, or ask for fewer new tokens.",
                code="too_many_tokens",
            )
        if self.num_tokens + num_tokens > self._max_tokens:
            raise overloaded(f"The server has {self.num_tokens} tokens queued. Try again later.", self.wait())
        self.num_tokens += num_tokens

    def give(self, num_tokens: int) -> None:
        """Count tokens out."""
        now = monotonic()
        share = min((now - self._last) / MEMORY_SECONDS, 1.0)
        if share > 0:
            self._rate += share * (num_tokens / (now - self._last) - self._rate)
        self._last = now
        self.num_tokens -= num_tokens

    def wait(self) -> float:
        """Estimate the seconds until what is queued is done."""
        return min(self.num_tokens / self._rate, 60.0) if self._rate else 1.0
