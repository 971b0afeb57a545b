"""The names of a family's tensors, in checkpoints and here: an aligned table that reads both ways."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Rename:
    """A name in checkpoints ↔ its canonical name. `*` stands for one part between dots, in the same order in both."""

    checkpoint: str
    canonical: str

    def __post_init__(self) -> None:
        assert self.checkpoint.count("*") == self.canonical.count("*"), f"{self} cannot be reversed"

    def to_canonical(self, name: str) -> str | None:
        """The canonical name, if this rule is about `name`."""
        return _replace(self.checkpoint, self.canonical, name)

    def to_checkpoint(self, name: str) -> str | None:
        """The name in checkpoints, if this rule is about the canonical `name`."""
        return _replace(self.canonical, self.checkpoint, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """All that a checkpoint of a family may hold. Of two rules to one canonical name, the first is preferred."""

    rules: tuple[Rename, ...]
    """The backbone's tensors."""
    heads: tuple[Rename, ...] = ()
    """Those of heads, which the loaded model may lack."""
    ignored: tuple[str, ...] = ()
    """Tensors that are known and not needed: buffers, and what the loaded form does not have. `*` spans dots here."""
    prefix: str = ""
    """What stands before the backbone's names in a checkpoint with a head."""
    old_names: dict[str, str] = field(default_factory=dict)
    """Last parts of names that old checkpoints use → those of the table."""

    def to_canonical(self, name: str) -> Iterator[str]:
        """The canonical names that a checkpoint's tensor may have, by the first rule of each table about it."""
        stem, _, last = name.rpartition(".")
        name = f"{stem}.{self.old_names[last]}" if last in self.old_names else name
        backbone = name.removeprefix(self.prefix)
        for rules, candidate in ((self.rules, backbone), (self.heads, name)):
            yield from (canonical for rule in rules if (canonical := rule.to_canonical(candidate)) is not None)

    def is_of_a_head(self, name: str) -> bool:
        """Whether a tensor belongs to a head, which the loaded model may lack."""
        return any(rule.to_canonical(name) is not None for rule in self.heads)

    def to_checkpoint(self, canonical: str, *, prefix: str) -> str:
        """The name under which a parameter is exported, the backbone's behind `prefix`."""
        for rules, before in ((self.rules, prefix), (self.heads, "")):
            for rule in rules:
                name = rule.to_checkpoint(canonical)
                if name is not None:
                    return before + name
        raise AssertionError(f"no rule exports {canonical}")

    def is_ignored(self, name: str) -> bool:
        """Whether a tensor is known, and known not to be needed."""
        names = (name, name.removeprefix(self.prefix))
        return any(fnmatchcase(n, pattern) for pattern in self.ignored for n in names)


def _replace(pattern: str, replacement: str, name: str) -> str | None:
    expression = "([^.]+)".join(re.escape(part) for part in pattern.split("*"))
    found = re.fullmatch(expression, name)
    if found is None:
        return None
    parts = iter(found.groups())
    return "".join(next(parts) if letter == "*" else letter for letter in replacement)
