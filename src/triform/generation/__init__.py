"""Step 2, again and again: a cache, and the choice of the next token."""

from triform.generation.beam_search import Hypothesis, beam_search
from triform.generation.cache import KeyValueCache
from triform.generation.choice import GeneratedToken, tokens
from triform.generation.config import GenerationConfig
from triform.generation.decoding import Decoding

__all__ = ["Decoding", "GeneratedToken", "GenerationConfig", "Hypothesis", "KeyValueCache", "beam_search", "tokens"]
