"""The spec describes a model: frozen dataclasses in the terms of the field; no arrays, no engine.

Every transformer here is a stack of blocks, every block a tuple of residual steps, and one step covers them all:

    x ← residual_norm(x + post_norm(core(pre_norm(x))))
"""

from triform.spec import attention, block, embedding, feed_forward, head, model, norm, pooling, position
from triform.spec.attention import *
from triform.spec.block import *
from triform.spec.embedding import *
from triform.spec.feed_forward import *
from triform.spec.head import *
from triform.spec.model import *
from triform.spec.norm import *
from triform.spec.pooling import *
from triform.spec.position import *

__all__: list[str] = []
__all__ += attention.__all__
__all__ += block.__all__
__all__ += embedding.__all__
__all__ += feed_forward.__all__
__all__ += head.__all__
__all__ += model.__all__
__all__ += norm.__all__
__all__ += pooling.__all__
__all__ += position.__all__
