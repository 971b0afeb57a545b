"""A step of several requests: logits → next tokens. Requests with equal settings share one call."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from triform.engines import Array, Engine
from triform.errors import TriformError
from triform.generation.beam_search import best_candidates
from triform.generation.choice import choose
from triform.generation.request import Request
from triform.generation.stopping import Stopping


def advance(engine: Engine, logits: Array, requests: Sequence[Request]) -> dict[Request, list[int]]:
    """Choose the next tokens of requests from logits of shape (rows, V), and append the tokens.

    A request whose choice fails, for example on NaN in its logits, ends with that error; other requests continue.

    Arguments:
        engine: the engine of the logits.
        logits: (rows, V), one row for each sequence of the requests in order.
        requests: requests without unread tokens.

    Returns:
        For each request, the parent branch of each of its sequences; 0 for a prompt that has just branched.
    """
    first_row = 0
    rows: dict[Request, list[int]] = {}
    groups: dict[int, list[Request]] = {}
    is_late: dict[Stopping, bool] = {}
    just_read: list[Request] = []
    for request in requests:
        end = first_row + len(request.sequences)
        rows[request] = list(range(first_row, end))
        first_row = end
        if request.is_unread:
            just_read.append(request)
            request.branch()
            rows[request] *= len(request.sequences)
        groups.setdefault(id(request.rule), []).append(request)
        if request.stopping not in is_late:
            # The clock is read once, so that all sequences of a call end together.
            is_late[request.stopping] = request.stopping.is_out_of_time()
    parents: dict[Request, list[int]] = {}
    for group in groups.values():
        parents.update(_advance_group(engine, logits, group, rows, is_late))
    for request in just_read:
        parents[request] = [0] * len(parents[request])
    return parents


def _advance_group(
    engine: Engine,
    logits: Array,
    group: Sequence[Request],
    rows: Mapping[Request, list[int]],
    is_late: Mapping[Stopping, bool],
) -> dict[Request, list[int]]:
    """Advance requests with equal settings for the choice of a token."""
    own_rows = list(chain.from_iterable(rows[request] for request in group))
    is_all = own_rows == list(range(logits.shape[0]))
    own_logits = logits if is_all else engine.rows(logits, np.array(own_rows))
    rule = group[0].rule
    try:
        if rule.num_beams > 1:
            beams = [request.beams for request in group if request.beams is not None]
            candidates = best_candidates(engine, own_logits, beams, rule)
            return {
                request: request.add_candidates(own, out_of_time=is_late[request.stopping])
                for request, own in zip(group, candidates, strict=True)
            }
        sequences = [sequence for request in group for sequence in request.sequences]
        keys = [request.keys[sequence.answer] for request in group for sequence in request.sequences]
        tokens, known = choose(engine, own_logits, sequences, keys, rule)
    except TriformError as error:
        if len(group) > 1:
            alone = [_advance_group(engine, logits, [request], rows, is_late) for request in group]
            return dict(chain.from_iterable(each.items() for each in alone))
        group[0].fail(error)
        return {group[0]: []}
    parents, first = {}, 0
    for request in group:
        own_tokens = slice(first, first + len(request.sequences))
        first = own_tokens.stop
        parents[request] = request.add_tokens(
            tokens[own_tokens], known[own_tokens], out_of_time=is_late[request.stopping]
        )
    return parents
