"""A step of several requests: logits → next tokens. Requests with equal settings share one call."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triform.engines import Array, Engine
from triform.errors import TriformError
from triform.generation.beam_search import best_candidates
from triform.generation.choice import choose, most_probable
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
        For each request whose sequences have ended or branched, the parent branch of each remaining sequence; 0 for a
        prompt that has just branched.
    """
    num_rows = 0
    groups: dict[tuple[int, bool], tuple[list[Request], list[int]]] = {}
    is_late: dict[Stopping, bool] = {}
    just_read: list[Request] = []
    for request in requests:
        rows = range(num_rows, num_rows + len(request.sequences))
        num_rows = rows.stop
        group, own_rows = groups.setdefault((id(request.rule), request.grammar is None), ([], []))
        group.append(request)
        if request.is_unread:
            just_read.append(request)
            request.branch()
            own_rows += [rows.start] * len(request.sequences)
        else:
            own_rows += rows
        if request.stopping not in is_late:
            # The clock is read once, so that all sequences of a call end together.
            is_late[request.stopping] = request.stopping.is_out_of_time()
    parents: dict[Request, list[int]] = {}
    for group, own_rows in groups.values():
        parents |= _advance_group(engine, logits, group, own_rows, is_late)
    return parents | {request: [0] * len(request.sequences) for request in just_read}


def _advance_group(
    engine: Engine,
    logits: Array,
    group: Sequence[Request],
    rows: Sequence[int],
    is_late: Mapping[Stopping, bool],
) -> dict[Request, list[int]]:
    """Advance requests with equal settings for the choice of a token. `rows` has a row for each of their sequences."""
    is_all = rows == list(range(logits.shape[0]))
    own_logits = logits if is_all else engine.rows(logits, np.array(rows))
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
        columns: list[Sequence[Any]] = [*choose(engine, own_logits, sequences, keys, rule)]
        if any(request.num_alternatives for request in group):
            counts = [request.num_alternatives for request in group for _ in request.sequences]
            columns.append(most_probable(engine, own_logits, counts))
        chosen = zip(*columns, strict=True)
    except TriformError as error:
        if len(group) == 1:
            group[0].fail(error)
            return {group[0]: []}
        parents: dict[Request, list[int]] = {}
        rest = iter(rows)
        for request in group:
            own_rows = [next(rest) for _ in request.sequences]
            parents |= _advance_group(engine, logits, [request], own_rows, is_late)
        return parents
    changed: dict[Request, list[int]] = {}
    for request in group:
        late = is_late[request.stopping]
        going = []
        for place, sequence in enumerate(request.sequences):
            if request.add_token(sequence, *next(chosen), out_of_time=late) is None:
                going.append(place)
        if len(going) < len(request.sequences):
            request.keep_branches(going)
            changed[request] = going
    return changed
