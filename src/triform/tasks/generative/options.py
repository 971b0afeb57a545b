"""Options that all tasks share whose answers come token by token."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from triform.generation import ContextEnd
from triform.tasks.options import option
from triform.tasks.text_task import TextOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationOptions(TextOptions):
    """Settings of `Model.generate`; where one is not set, the model's own holds."""

    max_new_tokens: int | None = option(None, "Most tokens to add; by default as the model says, or 256.", minimum=1)
    min_new_tokens: int | None = option(None, "Fewest tokens to add.", minimum=0)
    do_sample: bool | None = option(None, "Draw each token by its probability, or take the best.")
    temperature: float | None = option(None, "When drawing: below 1 is closer to the best, above 1 freer.")
    top_k: int | None = option(None, "When drawing: among so many of the best; 0 for all.", minimum=0)
    top_p: float | None = option(None, "When drawing: among the best that together are so probable.")
    min_p: float | None = option(None, "When drawing: among those so probable, as a share of the best one's.")
    seed: int | None = option(None, "When drawing: the same seed draws the same.", minimum=0)
    num_beams: int | None = option(None, "Beam search with so many beams; 1 is none.", minimum=1)
    length_penalty: float | None = option(None, "Of beams: above 0 is for longer answers, below 0 for shorter.")
    repetition_penalty: float | None = option(None, "Above 1: tokens seen before become less likely.")
    max_time: float | None = option(None, "End all answers of a batch after so many seconds.")
    at_context_end: str | None = option(
        None,
        "Where the context has no room for the new tokens: refuse (error), stop, or forget its beginning (slide).",
        choices=tuple(ContextEnd),
    )
    no_repeat_ngram_size: int | None = option(None, "No run of so many tokens comes twice; 0 for no rule.", minimum=0)

    generate_kwargs: Mapping[str, Any] | None = option(
        None, "Any other setting of generation by its name in the field, as a JSON object."
    )

    def settings(self) -> Mapping[str, Any]:
        """Those of `Model.generate` that are set."""
        names = {known.name for known in fields(GenerationOptions)} - {known.name for known in fields(TextOptions)}
        own = {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}
        return {**own.pop("generate_kwargs", {}), **own}
