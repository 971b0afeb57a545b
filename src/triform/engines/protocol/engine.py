"""An engine does all arithmetic: the groups of operations together."""

from typing import Any

from triform.engines.protocol.answers import AnswerOperations
from triform.engines.protocol.arrays import ArrayT, ParameterOperations, ParameterT
from triform.engines.protocol.attention import AttentionOperations
from triform.engines.protocol.dense import DenseOperations


class TypedEngine(
    ParameterOperations[ArrayT, ParameterT],
    DenseOperations[ArrayT, ParameterT],
    AttentionOperations[ArrayT],
    AnswerOperations[ArrayT],
):
    """An engine owns arrays and parameters of engine-specific types, and does all arithmetic on them.

    A new engine implements the abstract operations. The other operations are compositions of these; an engine may
    fuse them, as long as the result stays the same.
    """


Engine = TypedEngine[Any, Any]
"""The engine type of layers and upper floors, with opaque arrays and parameters."""
