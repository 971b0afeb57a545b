"""New heads: the change of config.json for another head on a backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triform import families, spec
from triform.errors import InputError
from triform.families.kit.adapted import find_architecture
from triform.spec import Problem

CLASSIFIERS = (spec.SequenceHead, spec.TokenHead)


@dataclass(frozen=True, slots=True)
class NewHead:
    """Head for training, in place of the head named by config.json.

    Raises:
        InputError: labels or problem for a head that does not classify, a classifier without labels, a label that
            comes twice, or an unknown problem.
    """

    kind: type[spec.Head] | None
    """Type of the head; None for the backbone alone."""
    labels: Sequence[str] | None = None
    """Names of the classes of a classifier, in the order of its logits."""
    problem: str | None = None
    """Meaning of a sequence's scores, a value of `spec.Problem`; None for one label for each sequence."""

    def __post_init__(self) -> None:
        if (self.labels is not None or self.problem is not None) and self.kind not in CLASSIFIERS:
            name = "no head" if self.kind is None else self.kind.__name__
            raise InputError(
                f"labels and problem are for a new head that classifies, got {name}. Ask for SequenceHead or TokenHead."
            )
        if self.problem is not None and self.problem not in set(Problem):
            raise InputError(f"problem={self.problem!r}: expected one of {', '.join(Problem)}.")
        if self.labels is not None and (not self.labels or len(set(self.labels)) < len(self.labels)):
            raise InputError(f"labels={list(self.labels)!r:.300}: expected at least one, none of them twice.")
        if self.labels is None and self.kind in CLASSIFIERS and self.problem != Problem.REGRESSION:
            assert self.kind is not None
            raise InputError(f"labels are missing: a new {self.kind.__name__} needs names in the order of its logits.")

    def put_on(self, config: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Change the contents of config.json to name this head and the labels.

        Raises:
            UnsupportedModelError: the family has no such head.
        """
        backbone = next(iter(families.find_family(config, where).architectures))
        architecture = backbone if self.kind is None else find_architecture(config, where, self.kind)
        changed = {**config, "architectures": [architecture]}
        if self.labels is not None or self.problem == Problem.REGRESSION:
            labels = self.labels or ["LABEL_0"]
            changed.pop("num_labels", None)
            changed["id2label"] = {str(number): label for number, label in enumerate(labels)}
            changed["label2id"] = {label: number for number, label in enumerate(labels)}
        if self.kind is spec.SequenceHead or self.problem is not None:
            changed["problem_type"] = Problem(self.problem or Problem.SINGLE_LABEL).value
        return changed
