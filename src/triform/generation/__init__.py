"""Step 2, again and again: a cache, and the choice of the next token."""

from triform.generation.beam_search import beam_search
from triform.generation.cache import KeyValueCache
from triform.generation.choice import GeneratedToken, gather, tokens
from triform.generation.config import ContextEnd, GenerationConfig
from triform.generation.decoding import Decoding
from triform.generation.sequence import Completion, FinishReason
from triform.generation.session import Session
from triform.generation.stopping import Stopping

__all__ = [
    "Completion",
    "ContextEnd",
    "Decoding",
    "FinishReason",
    "GeneratedToken",
    "GenerationConfig",
    "KeyValueCache",
    "Session",
    "Stopping",
    "beam_search",
    "gather",
    "tokens",
]
