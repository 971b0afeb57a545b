"""What the tests of the packed cache ask of a model and of its files."""

from pathlib import Path
from typing import Any

import triform

BATCH = triform.Batch.from_ids([[5, 6, 7], [8]])


def answer(model: Path, **arguments: Any) -> Any:
    return triform.load(model, engine="native", **arguments)(BATCH).logits


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*"))
