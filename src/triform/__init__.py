"""Triform: one runtime for the three forms of transformer, from human input to human answer.

import triform

classify = triform.pipeline("text-classification", model="folder-or-id")
classify("What a fine day.")            # [{"label": …, "score": …}]
"""

from typing import TYPE_CHECKING, Any

from triform.errors import TriformError
from triform.inputs import Batch
from triform.model import Model, load
from triform.version import __version__

if TYPE_CHECKING:
    from triform.tasks import pipeline
    from triform.training import train

__all__ = ["Batch", "Model", "TriformError", "__version__", "load", "pipeline", "train"]


def __getattr__(name: str) -> Any:
    # Tasks and training are imported when they are used: without tasks `import triform` takes a third less time.
    if name == "pipeline":
        from triform.tasks import pipeline

        return pipeline
    if name == "train":
        from triform.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
