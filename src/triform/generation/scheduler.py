"""Continuous batching: requests join and leave the shared passes of a decoder at any step. Yu et al. 2022 (Orca).

A step is a pass over all running requests: one token of each decoding sequence, and prompt tokens up to the token
budget (chunked prefill). Without pages for the next step, the youngest request is preempted: its pages are freed, and
its tokens are read again later. On a batch-invariant engine the answer to a request has the same bits in
any batch.
"""

import threading
from collections.abc import Generator, Sequence

from triform import spec
from triform.engines import Array, Engine, Hook
from triform.errors import InputError
from triform.generation.advance import advance
from triform.generation.config import GenerationConfig
from triform.generation.network import GenerativeDecoder, SourceEncoder
from triform.generation.pages import OutOfPagesError, PagePool
from triform.generation.request import GeneratedToken, Request
from triform.generation.running import RunningBatch

TOKEN_BUDGET = 2048
"""Most tokens of a pass: enough for fast matrix products on a CPU, few enough for a short time per step."""


class Scheduler:
    """A scheduler runs requests on a decoder. Threads may share a scheduler: any waiting thread steps for all.

    Arguments:
        engine: the engine of the network.
        stack: the spec of the decoder's stack.
        decoder: the network with a language head.
        encoder: the encoder, in an encoder-decoder.
        token_budget: most tokens of a pass; each running sequence gets at least one.
        byte_budget: most bytes of keys and values, of self-attention and of cross-attention each; None for no limit.
        hook: sees, and may change, every pass; the prefix cache is off with a hook.
    """

    def __init__(
        self,
        engine: Engine,
        stack: spec.Stack,
        decoder: GenerativeDecoder,
        encoder: SourceEncoder | None = None,
        *,
        token_budget: int = TOKEN_BUDGET,
        byte_budget: int | None = None,
        hook: Hook | None = None,
    ) -> None:
        self.token_budget = token_budget
        self._engine = engine
        self._context_length = stack.context_length
        self._running = RunningBatch(engine, stack, decoder, encoder, byte_budget=byte_budget, hook=hook)
        self._waiting: list[Request] = []
        """Waiting requests, in the order of arrival."""
        self._being_read: dict[bytes, Request] = {}
        """Key of an unread page → the request that reads the page; requests with the same page wait."""
        self._rules: dict[GenerationConfig, GenerationConfig] = {}
        self._num_added = 0
        self.num_tokens_read = 0
        """Tokens that have gone through the decoder since the scheduler was made."""
        self._lock = threading.RLock()

    @property
    def pool(self) -> PagePool:
        """The pages of the decoder's keys and values."""
        return self._running.pool

    @property
    def has_work(self) -> bool:
        """Check for waiting or running requests."""
        return bool(self._waiting or self._running.requests)

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            InputError: the request alone exceeds the byte budget.
        """
        with self._lock:
            self._check_fits(request)
            request.order = self._num_added
            self._num_added += 1
            request.rule = self._rules.setdefault(request.rule, request.rule)
            request.page_keys = self.pool.prompt_keys(request.prompt)
            self._waiting.append(request)

    def cancel(self, request: Request) -> None:
        """End a waiting or running request, and return the pages to the pool."""
        request.is_finished = True
        self.withdraw(request)

    def withdraw(self, request: Request) -> None:
        """Remove a waiting or running request, and return the pages to the pool. Another scheduler may continue it."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            elif request in self._running.requests:
                self._running.remove([request])
            self._settle()

    def step(self) -> list[GeneratedToken]:
        """Run a pass of the decoder, and return the new tokens in the order of the requests.

        The tokens are also in `Request.tokens`. A failed request has an `error`; other requests continue.
        """
        with self._lock:
            before = [(request, len(request.tokens)) for request in [*self._running.requests, *self._waiting]]
            self._run_pass()
            return [token for request, count in before for token in request.tokens[count:]]

    def _run_pass(self) -> None:
        try:
            self._admit()
            if self._running.requests:
                self._running.slide()
                ready, logits = self._read()
                self._running.keep(advance(self._engine, logits, ready))
        except BaseException:
            # An interrupted pass has changed no request: the tokens can be read again.
            self._preempt(self._running.requests)
            raise
        finally:
            self._settle()

    def run(self, requests: Sequence[Request]) -> Generator[GeneratedToken]:
        """Add requests and yield their tokens. Closing the generator cancels unfinished requests.

        Raises:
            NonFiniteError, InputError: the error of the first failed request, after all earlier tokens.
        """
        try:
            for request in requests:
                self.add(request)
            going = list(requests)
            while going:
                with self._lock:
                    if not any(request.tokens or request.is_finished for request in going):
                        self._run_pass()
                    tokens = [token for request in going for token in request.take_tokens()]
                    error = next((request.error for request in going if request.error is not None), None)
                    going = [request for request in going if not request.is_finished]
                yield from tokens
                if error is not None:
                    raise error
        finally:
            for request in requests:
                if not request.is_finished:
                    self.cancel(request)

    def _admit(self) -> None:
        """Admit waiting requests to the running batch, within the token budget and the free pages."""
        if not self._waiting:
            return
        budget = self.token_budget - sum(self._running.num_unread())
        admitted: list[Request] = []
        for request in self._waiting:
            if budget <= 0 or not self._have_pages([*admitted, request]):
                break
            missing = request.page_keys[self.pool.num_known(request.page_keys) :] if request.is_unread else []
            if missing and missing[0] in self._being_read:
                continue  # another request reads the common prefix; wait for its pages
            self._being_read.update(dict.fromkeys(missing, request))
            admitted.append(request)
            num_known = (len(request.page_keys) - len(missing)) * self.pool.page_size
            budget -= sum(len(each.ids) for each in request.sequences) - num_known + request.num_source_tokens
        if admitted:
            self._running.add(admitted)
            self._waiting = [request for request in self._waiting if request not in admitted]

    def _read(self) -> tuple[list[Request], Array]:
        while True:
            try:
                ready, logits, num_tokens = self._running.read(self.token_budget)
                self.num_tokens_read += num_tokens
                return ready, logits
            except OutOfPagesError:
                # Preempt the youngest request, so that the oldest always continues.
                self._preempt([max(self._running.requests, key=lambda request: request.order)])

    def _preempt(self, requests: Sequence[Request]) -> None:
        """Preemption: free the pages of running requests, and queue them again. Their tokens are read again later."""
        going = [request for request in requests if not request.is_finished]
        self._running.remove(requests)
        self._waiting = sorted([*self._waiting, *going], key=lambda request: request.order)

    def _settle(self) -> None:
        """Drop entries of `_being_read` without a reader, and free memory after the last request."""
        if self._being_read:
            reading = [request for request in self._running.requests if request.is_unread]
            self._being_read = {key: each for key, each in self._being_read.items() if each in reading}
        if not self.has_work:
            self._running.shrink()
            self._rules.clear()

    def _have_pages(self, requests: Sequence[Request]) -> bool:
        """Check whether the pools have pages for new requests beside the running ones."""
        if self.pool.max_pages is None or (len(requests) == 1 and not self._running.requests):
            return True
        own = sum(self._num_pages(len(each.ids)) + 1 for request in requests for each in request.sequences)
        sources = sum(self._num_pages(request.num_source_tokens) for request in requests)
        pools = (self.pool, own + len(self._running)), (self._running.source_pool, sources)
        return all(count <= (pool.num_available() or 0) for pool, count in pools if count)

    def _check_fits(self, request: Request) -> None:
        if self.pool.max_pages is None:
            return
        length = len(request.prompt) + request.limit.num_tokens
        if self._context_length is not None:
            length = min(length, self._context_length)
        source_pages = self._running.source_pool.max_pages
        for name, num_pages, most in (
            ("its prompt and answers", (self._num_pages(length) + 1) * request.num_branches, self.pool.max_pages),
            ("its source", self._num_pages(request.num_source_tokens), source_pages or 0),
        ):
            if num_pages > most:
                raise InputError(
                    f"A request needs up to {num_pages} pages of {self.pool.page_size} tokens for the keys and values "
                    f"of {name}, and the byte budget allows {most}. Shorten the prompt, ask for fewer new tokens, "
                    "beams or answers, or raise the budget."
                )

    def _num_pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self.pool.page_size)
