"""The engine: all groups of operations together."""

from triform.engines.protocol.answers import AnswerOperations
from triform.engines.protocol.arrays import ParameterOperations
from triform.engines.protocol.attention import AttentionOperations
from triform.engines.protocol.dense import DenseOperations


class Engine(ParameterOperations, DenseOperations, AttentionOperations, AnswerOperations):
    """Where the arithmetic happens.

    A new engine implements the abstract operations; the others are compositions of them that it may fuse,
    as long as the result stays the same.
    """

    name: str
