"""Step 2: Batch → tensors. The three forms of transformer, built from a spec on an engine."""

from triform.networks.build import Declaration, Network, build, declare
from triform.networks.context import Cache, Memory
from triform.networks.decoder import Decoder
from triform.networks.encoder import Encoder
from triform.networks.encoder_decoder import EncoderDecoder
from triform.networks.output import EncoderOutput, Output

__all__ = [
    "Cache",
    "Declaration",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "EncoderOutput",
    "Memory",
    "Network",
    "Output",
    "build",
    "declare",
]
