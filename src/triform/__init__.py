"""Triform: one runtime for the three forms of transformer, from human input to human answer.

import triform

classify = triform.pipeline("text-classification", model="folder-or-id")
classify("What a fine day.")            # [{"label": …, "score": …}]
"""

from triform.errors import TriformError
from triform.inputs import Batch
from triform.model import Model, load
from triform.tasks import pipeline

__version__ = "0.1.0"

__all__ = ["Batch", "Model", "TriformError", "__version__", "load", "pipeline"]
