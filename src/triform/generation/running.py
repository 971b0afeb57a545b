"""The running batch: requests in shared passes of a decoder, with their rows, pages and sources."""

from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from operator import is_, itemgetter

import numpy as np

from triform import spec
from triform.engines import Array, Engine, Hook, Integers, Spans
from triform.generation.cache import KeyValueCache, cross_attention_layers, self_attention_layers
from triform.generation.network import GenerativeDecoder, SourceEncoder
from triform.generation.pages import MIN_COPIED_ROWS, ROOT, PagePool
from triform.generation.request import Request
from triform.generation.sequence import GrowingSequence
from triform.generation.sources import SourceMemory
from triform.inputs import Batch

MIN_PROMPT_TOKENS = 8
"""Fewest prompt tokens in a pass with unread prompts, for any number of decoding sequences."""


class RunningBatch:
    """Running requests. Row r of the KV cache holds sequence r of all requests in order."""

    def __init__(
        self,
        engine: Engine,
        stack: spec.Stack,
        decoder: GenerativeDecoder,
        encoder: SourceEncoder | None,
        *,
        byte_budget: int | None,
        hook: Hook | None,
    ) -> None:
        self.requests: list[Request] = []
        self._rows: list[tuple[Request, GrowingSequence]] = []
        """The request and the sequence of each row of the KV cache."""
        self._engine = engine
        self._context_length = stack.context_length
        self._decoder = decoder
        self._encoder = encoder
        self._hook = hook
        # In an encoder-decoder the decoder's states depend on the source too, so equal tokens do not mean equal pages.
        keeps_prefixes = encoder is None and hook is None
        self.pool = PagePool(engine, self_attention_layers(stack), byte_budget, keeps_prefixes)
        self.source_pool = PagePool(engine, cross_attention_layers(stack), byte_budget)
        self._cache = KeyValueCache(self.pool, 0)
        self._memory = None if encoder is None else SourceMemory(self.source_pool)
        self._counts: list[int] = []
        """Tokens of each row in the last pass. Steps of decoding have the same counts, and so the same spans."""
        self._spans = Spans.of_lengths(np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def num_unread(self) -> list[int]:
        """Count the unread tokens of each row."""
        known = self._cache.lengths.tolist()
        return [len(row.ids) - row.num_forgotten - n for (_, row), n in zip(self._rows, known, strict=True)]

    def add(self, requests: Sequence[Request]) -> None:
        """Encode the sources of requests, and add a row with the cached prefix for each sequence.

        Raises:
            OutOfPagesError: the source pool has too few pages; the batch is unchanged.
        """
        if self._encoder is not None and self._memory is not None:
            sources = Batch.concatenate([request.source for request in requests if request.source is not None])
            with self._engine.inference():
                states = self._encoder.encode(sources, hook=self._hook)
            self._memory.append(states.last_hidden_state, states.spans, [len(each.sequences) for each in requests])
        for request in requests:
            self.requests.append(request)
            for sequence in request.sequences:
                self._rows.append((request, sequence))
                self._add_row(request, sequence)

    def _add_row(self, request: Request, sequence: GrowingSequence) -> None:
        visible = sequence.ids[sequence.num_forgotten :]
        keys = request.page_keys if request.is_unread else self.pool.prompt_keys(visible)
        prefix = self.pool.find_prefix(visible, keys)
        num_found = self._cache.append(prefix)
        sequence.page_key = prefix.key
        if request.is_unread:
            request.num_cached_tokens = num_found
        self.pool.num_reused_tokens += num_found

    def remove(self, requests: Sequence[Request]) -> None:
        """Remove requests, and return their pages to the pool."""
        kept = [row for row, (owner, _) in enumerate(self._rows) if owner not in requests]
        self.requests = [request for request in self.requests if request not in requests]
        self._keep_rows(kept)

    def slide(self) -> None:
        """Slide full sequences: drop all but the last half of the context, and read that half again."""
        context = self._context_length
        if context is None or not any(request.slides for request in self.requests):
            return
        slides = np.array([request.slides for request, _ in self._rows])
        is_full = (self._cache.lengths == context) & slides
        if is_full.any():
            self._cache.truncate(np.where(is_full, 0, self._cache.lengths))
            for row in np.flatnonzero(is_full).tolist():
                _, sequence = self._rows[row]
                sequence.num_forgotten = len(sequence.ids) - max(1, context // 2)
                sequence.page_key = ROOT

    def read(self, token_budget: int) -> tuple[list[Request], Array, int]:
        """Run a pass over all rows: prompts in chunks within the token budget, and a token of each decoding row.

        Returns:
            The requests without unread tokens, logits of shape (rows, V), of the last token of each of their rows, and
            the number of tokens read.

        Raises:
            OutOfPagesError: the pool has too few pages for the new tokens; the batch is unchanged.
        """
        ids, is_ready = self._plan(token_budget)
        counts = [len(each) for each in ids]
        if counts != self._counts:
            self._counts, self._spans = counts, Spans.of_lengths(np.array(counts))
        batch = Batch(spans=self._spans, ids=np.array(list(chain.from_iterable(ids)), np.int64))
        last = batch.spans.ends - 1
        ready = self.requests.copy()
        if not all(is_ready):
            ready = list(dict.fromkeys(self._rows[row][0] for row, each in enumerate(is_ready) if each))
            # A pass with unfinished prompts only needs no logits, but the head takes at least one row.
            last = last[np.array(is_ready)] if ready else last[-1:]
        with self._engine.inference():
            output = self._decoder.decode(
                batch, memory=self._memory, cache=self._cache, logits_at=last, hook=self._hook
            )
        if self._memory is not None:
            self._memory.finish_pass()
        if self.pool.keeps_prefixes:
            self._add_full_pages(batch.spans.lengths)
            self._add_last_pages([row for row, each in enumerate(is_ready) if each and self._rows[row][0].is_unread])
        return ready, output.logits, batch.num_rows

    def _plan(self, token_budget: int) -> tuple[list[list[int]], list[bool]]:
        """Chunked prefill: divide the token budget among rows. Return ids for each row, and whether these are all."""
        num_unread = self.num_unread()
        if max(num_unread) == 1:  # the usual step of decoding
            return [row.ids[-1:] for _, row in self._rows], [True] * len(num_unread)
        spare = max(token_budget - len(self._rows), MIN_PROMPT_TOKENS)
        ids, is_ready = [], []
        for (request, row), unread in zip(self._rows, num_unread, strict=True):
            # Branches of a request decode in the same steps, so each reads all its unread tokens.
            count = min(unread, 1 + spare) if request.is_unread else unread
            spare = max(spare - count + 1, 0)
            end = len(row.ids) - unread + count
            ids.append(row.ids[end - count : end])
            is_ready.append(count == unread)
        return ids, is_ready

    def keep(self, parents: Mapping[Request, Sequence[int]]) -> None:
        """Keep the branches chosen by requests, and drop all other rows.

        Arguments:
            parents: for each request with a step, the parent branch of each of its sequences.
        """
        going = [sequence for request in self.requests for sequence in request.sequences]
        if len(going) == len(self._rows) and all(map(is_, going, (sequence for _, sequence in self._rows))):
            return  # the usual step: no sequence has ended or branched
        kept: list[int] = []
        first = 0
        for request, owned in groupby(self._rows, key=itemgetter(0)):
            num_rows = sum(1 for _ in owned)
            kept += [first + parent for parent in parents.get(request, range(num_rows))]
            first += num_rows
        if self.pool.keeps_prefixes and len(kept) < len(self._rows):
            ended = set(range(len(self._rows))).difference(kept)
            self._add_last_pages([row for row in sorted(ended) if self._rows[row][0].beams is None])
        self.requests = [request for request in self.requests if not request.is_finished]
        self._keep_rows(kept)

    def shrink(self) -> None:
        """Free the memory of unused pages."""
        self.pool.shrink()
        self.source_pool.shrink()

    def _keep_rows(self, kept: list[int]) -> None:
        if kept != list(range(len(self._rows))):
            rows = np.array(kept, np.int64)
            self._cache.keep(rows)
            if self._memory is not None:
                self._memory.keep(rows)
        self._rows = [(request, sequence) for request in self.requests for sequence in request.sequences]

    def _add_full_pages(self, counts: Integers) -> None:
        """Add the pages filled in this pass, which read `counts` (B,) tokens of each row, to the prefix cache.

        Pages of beams stay out: most beams are given up, and no later prompt begins with them.
        """
        size = self.pool.page_size
        lengths = self._cache.lengths
        for row in np.flatnonzero(lengths % size < counts).tolist():
            request, sequence = self._rows[row]
            if request.beams is not None:
                continue
            for place in range((lengths[row] - counts[row]) // size, lengths[row] // size):
                begin = sequence.num_forgotten + place * size
                page = self._cache.page(row, place)
                sequence.page_key = self.pool.add_prefix(page, sequence.page_key, sequence.ids[begin : begin + size])

    def _add_last_pages(self, rows: Sequence[int]) -> None:
        """Add the last page of these rows, if partly filled, to the prefix cache."""
        for row in rows:
            _, sequence = self._rows[row]
            length = int(self._cache.lengths[row])
            num_tokens = length % self.pool.page_size
            if num_tokens >= MIN_COPIED_ROWS:
                end = sequence.num_forgotten + length
                page = self._cache.page(row, length // self.pool.page_size)
                self.pool.add_prefix(page, sequence.page_key, sequence.ids[end - num_tokens : end])
