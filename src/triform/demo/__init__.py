"""The small models that ship with the package: two readers, a translator and a writer, one folder each in `models/`.

They were trained by `recipes/demo/` on sentences that its grammars write; each has a model card beside its weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """A shipped model, its task and an example."""

    name: str
    """The name for `triform demo`, and the folder."""
    task: str
    """A task of `triform.pipeline`."""
    summary: str
    """One line for people."""
    example: str
    """A text for the demo."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task."""

    @property
    def folder(self) -> Path:
        """The checkpoint, in the Hugging Face layout."""
        return MODELS / self.name


DEMOS: Mapping[str, Demo] = {
    demo.name: demo
    for demo in (
        Demo(
            name="sentiment",
            task="text-classification",
            summary="an encoder that tells praise from complaint",
            example="The room was small, but the staff were wonderful.",
        ),
        Demo(
            name="entities",
            task="token-classification",
            summary="an encoder that finds names of persons, places and organizations",
            example="Marie Curie was born in Warsaw and worked at the University of Paris.",
            options={"aggregation_strategy": "first"},
        ),
        Demo(
            name="translation",
            task="translation",
            summary="an encoder and a decoder that turn English into French",
            example="My cat is sleeping on the sofa.",
        ),
        Demo(
            name="story",
            task="text-generation",
            summary="a decoder that writes short stories",
            example="Once upon a time, there was a little",
            options={"seed": 0},
        ),
    )
}


def demo_for(task: str) -> Demo | None:
    """Find the shipped model for a task, or None."""
    return next((demo for demo in DEMOS.values() if demo.task == task), None)
