"""Step 2: Batch → tensors. The three forms of transformer, built from a spec on an engine."""

from triform.models.build import Declaration, Network, build, declare
from triform.models.decoder import Decoder
from triform.models.encoder import Encoder
from triform.models.encoder_decoder import EncoderDecoder
from triform.models.output import EncoderOutput, Output
from triform.models.step import Cache

__all__ = [
    "Cache",
    "Declaration",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "EncoderOutput",
    "Network",
    "Output",
    "build",
    "declare",
]
