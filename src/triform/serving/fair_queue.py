"""A fair queue: the lowest priority value first, then owners in turn by the tokens they have used, then arrival."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """An item of the queue."""

    owner: str
    """The API key, or another name of who asks."""
    priority: int
    """Lower values go first."""
    num_tokens: int
    """The cost of the item."""


Item = TypeVar("Item", bound=Queued)

MAX_OWNERS = 10_000
"""Owners whose use is remembered."""


class FairQueue(Generic[Item]):
    """A queue in which no owner's flood delays another owner, by the tokens that each has used."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[str, deque[Item]]] = {}
        """Priority → owner → items in the order of arrival."""
        self._used: dict[str, float] = {}
        """Owner → tokens taken. An owner without waiting items begins again at the least of the others."""

    def __len__(self) -> int:
        return sum(len(line) for lines in self._lines.values() for line in lines.values())

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Item]:
        return (item for lines in self._lines.values() for line in lines.values() for item in line)

    def add(self, item: Item) -> None:
        """Queue an item."""
        lines = self._lines.setdefault(item.priority, {})
        if item.owner not in lines:
            waiting = [self._used[owner] for owner in lines]
            self._used[item.owner] = max(self._used.get(item.owner, 0.0), min(waiting, default=0.0))
            lines[item.owner] = deque()
            self._forget_owners()
        lines[item.owner].append(item)

    def first(self) -> Item | None:
        """Return the item whose turn it is; None from an empty queue."""
        if not self._lines:
            return None
        lines = self._lines[min(self._lines)]
        owner = min(lines, key=lambda owner: self._used[owner])
        return lines[owner][0]

    def remove(self, item: Item, *, is_served: bool) -> bool:
        """Take out an item, and count its tokens for the owner if it is served; False if it is not there."""
        lines = self._lines.get(item.priority, {})
        line = lines.get(item.owner)
        if line is None or item not in line:
            return False
        line.remove(item)
        if is_served:
            self._used[item.owner] += item.num_tokens
        if not line:
            del lines[item.owner]
            if not lines:
                del self._lines[item.priority]
        return True

    def _forget_owners(self) -> None:
        if len(self._used) > MAX_OWNERS:
            waiting = {owner for lines in self._lines.values() for owner in lines}
            self._used = {owner: used for owner, used in self._used.items() if owner in waiting}
