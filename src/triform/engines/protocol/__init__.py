"""The engine protocol: the operations that layers call, and the values that engines and upper floors share.

An engine owns arrays: NumPy arrays or torch tensors. Layers pass them from one operation to the next and do no
arithmetic on them. Operations are functional: an operation never changes its arguments. Arrays are contiguous in the
order of their shape.

    arrays.py      parameters and arrays       dense.py      embeddings, linears, norms
    attention.py   attention, rotary           key_values.py the KV cache's pages, spans of sequences
    answers.py     pooling, top-k, softmax     training.py   dropout, gradients
    hooks.py       hooks of tracing            engine.py     all groups together

Shape letters, used in all tensor code:

    T  rows of a packed batch: the tokens of all its sequences, end to end
    S  rows of keys and values          B  sequences
    D  hidden_size                      N  num_attention_heads
    K  num_key_value_heads              H  head_dim
    F  intermediate_size                V  vocabulary or labels
    Q  queries of one sequence          R  distances between a query and a key
    E  relative embeddings
"""

from triform.engines.protocol.arrays import Array, Integers, Parameter, ParameterRole
from triform.engines.protocol.attention import Bias, DistanceBias, RelativeEmbeddings
from triform.engines.protocol.dense import Dense
from triform.engines.protocol.engine import Engine, TypedEngine
from triform.engines.protocol.hooks import Hook, ProbabilityHook, QueryRun, Selection, split_queries
from triform.engines.protocol.key_values import (
    KeysAndValues,
    KeyValues,
    KeyValueStore,
    LayerCache,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    Spans,
)

__all__ = [
    "Array",
    "Bias",
    "Dense",
    "DistanceBias",
    "Engine",
    "Hook",
    "Integers",
    "KeyValueStore",
    "KeyValues",
    "KeysAndValues",
    "LayerCache",
    "PackedKeyValues",
    "PageTable",
    "PagedKeyValues",
    "Parameter",
    "ParameterRole",
    "ProbabilityHook",
    "QueryRun",
    "RelativeEmbeddings",
    "Selection",
    "Spans",
    "TypedEngine",
    "split_queries",
]
