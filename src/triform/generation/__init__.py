"""Generation repeats step 2: the KV cache, the choice of the next token, and continuous batching of requests."""

from triform.generation.cache import KeyValueCache, new_cache
from triform.generation.config import ContextEnd, GenerationConfig
from triform.generation.grammar import Grammar
from triform.generation.request import GeneratedToken, Request, requests_of
from triform.generation.scheduler import Scheduler
from triform.generation.scoring import Score
from triform.generation.sequence import Completion, FinishReason
from triform.generation.stopping import Stopping

__all__ = [
    "Completion",
    "ContextEnd",
    "FinishReason",
    "GeneratedToken",
    "GenerationConfig",
    "Grammar",
    "KeyValueCache",
    "Request",
    "Scheduler",
    "Score",
    "Stopping",
    "new_cache",
    "requests_of",
]
