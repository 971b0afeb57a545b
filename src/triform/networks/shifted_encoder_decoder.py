"""Encoder-decoder for classification: both stacks read the same text. Lewis et al. 2019, section 3.1."""

from dataclasses import replace

import numpy as np

from triform import spec
from triform.engines import Hook, Integers
from triform.inputs import Batch
from triform.networks.encoder_decoder import EncoderDecoder
from triform.networks.output import Output
from triform.networks.scope import Scope


class ShiftedEncoderDecoder:
    """An encoder-decoder called with a single batch: the decoder reads the source, shifted right."""

    def __init__(
        self, scope: Scope, form: spec.EncoderDecoder, head: spec.Head | None, target: spec.ShiftTokensRight
    ) -> None:
        self._both = EncoderDecoder(scope, form, head)
        self._start = target.start

    def __call__(
        self,
        batch: Batch,
        *,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Run both stacks: Batch → Output. The head takes row t of the decoder for token t of the batch."""
        return self._both(
            batch,
            shift_tokens_right(batch, self._start),
            hidden_states=hidden_states,
            logits_at=logits_at,
            hook=hook,
            head_ids=batch.ids,
        )


def shift_tokens_right(batch: Batch, start: int) -> Batch:
    """Shift each sequence right: `start` comes first and the last token goes."""
    ids = np.roll(batch.ids, 1)
    ids[batch.spans.begins] = start
    return replace(batch, ids=ids, sources=())
