"""Step 2, again and again: a cache, and the choice of the next token."""

from triform.generation.cache import KeyValueCache
from triform.generation.config import GenerationConfig
from triform.generation.greedy import generate

__all__ = ["GenerationConfig", "KeyValueCache", "generate"]
