"""Encoder-decoder that classifies: both its stacks read the one text it is given. Lewis et al. 2019, section 3.1."""

from dataclasses import replace

import numpy as np

from triform import spec
from triform.engines import Hook, Integers
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import Cache
from triform.networks.encoder_decoder import EncoderDecoder
from triform.networks.output import Output
from triform.networks.scope import Scope


class ShiftedEncoderDecoder:
    """An encoder-decoder whose decoder reads the source again, called with one batch as an encoder is."""

    def __init__(
        self, scope: Scope, form: spec.EncoderDecoder, head: spec.Head | None, target: spec.ShiftTokensRight
    ) -> None:
        self._both = EncoderDecoder(scope, form, head)
        self._start = target.start

    def __call__(
        self,
        batch: Batch,
        *,
        cache: Cache | None = None,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Batch → Output: row t is the decoder's as it comes to token t, for which it stands to the head."""
        if cache is not None:
            raise InputError("cache: this model reads whole sequences, so it keeps no cache. Call it without one.")
        return self._both(
            batch,
            shift_tokens_right(batch, self._start),
            hidden_states=hidden_states,
            logits_at=logits_at,
            hook=hook,
            head_ids=batch.ids,
        )


def shift_tokens_right(batch: Batch, start: int) -> Batch:
    """Each sequence behind `start` and without its last token."""
    ids = np.roll(batch.ids, 1)
    ids[batch.spans.begins] = start
    return replace(batch, ids=ids, sources=())
