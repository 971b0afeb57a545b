"""The budget of a chat template: processor time, and the size of the values that the template makes.

A template is untrusted code. Each operation that makes a value spends a part of the budget, in characters, before or
right after the value is made. An operation that walks through nested values checks their size as text first: a list
of few objects may stand for a text without end.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from jinja2.runtime import Context
from jinja2.utils import Namespace

from triform.errors import shown

T = TypeVar("T")

BUDGET = " budget"
"""The variable that holds the budget; its name has a blank, so no template can set it."""
ITEM = 16
"""Characters that an item of a list counts: about 64 bytes, at 4 bytes for a character."""
ESCAPED = 10
"""The most characters of one character in the text of a list, such as \\U000f0000."""
MAX_DEPTH = 100
"""The most levels of a nested value."""
MAX_COMPARED = 1_000_000_000
"""The most comparisons of two characters in one search without a linear bound."""
MAX_BITS = 10_000
"""The most bits of a whole number."""


class Budget:
    """The processor time and the characters that a template has left.

    Arguments:
        characters: the sum of all values that the template may make.
        seconds: processor time of the thread.
    """

    def __init__(self, characters: int, seconds: float) -> None:
        self._characters, self._left = characters, characters
        self._seconds, self._end = seconds, time.thread_time() + seconds

    @staticmethod
    def of(context: Context) -> "Budget":
        """Return the budget of a rendering, after a look at the clock."""
        budget: Budget = context[BUDGET]
        budget.check_time()
        return budget

    def check_time(self) -> None:
        """Raise TimeoutError if the processor time is used up."""
        if time.thread_time() > self._end:
            raise TimeoutError(f"it takes more than {self._seconds:g} s")

    def check_room(self, characters: int) -> None:
        """Raise OverflowError if fewer characters than these are left."""
        if characters > self._left:
            raise OverflowError(f"it makes more than {self._characters:,} characters")

    def check_search(self, text: str, wanted: Any) -> None:
        """Raise OverflowError if a search may compare each character of two long texts."""
        if isinstance(wanted, str) and len(text) * len(wanted) > MAX_COMPARED:
            raise OverflowError(f"it searches {len(text):,} characters for {len(wanted):,}")

    @property
    def num_items_left(self) -> int:
        """Count the items of lists that may still be made."""
        return self._left // ITEM

    def spend(self, characters: int) -> None:
        """Take characters from the budget."""
        self.check_room(characters)
        self._left -= characters

    def made(self, value: T) -> T:
        """Spend the size of a new value, without the values in it, and return the value."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, Collection):
            self.spend(ITEM * (len(value) + 1))
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise OverflowError(f"a whole number of more than {MAX_BITS:,} bits")
        return value

    def iterated(self, value: Any) -> Any:
        """Spend the items of an iterable: all at once where the number is known, else one by one."""
        if isinstance(value, Collection):
            self.spend(ITEM * len(value))
            return value
        return self._spending(value) if isinstance(value, Iterator) else value

    def _spending(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            self.check_time()
            self.spend(ITEM)
            yield item

    def flat(self, value: T) -> T:
        """Return a value whose text has a bounded size, so that comparing and hashing end soon.

        Raises:
            OverflowError: a nested value is too large or too deep.
        """
        if not isinstance(value, str):
            self.size(value)
        return value

    def text(self, value: Any) -> str:
        """Convert a value to text."""
        if isinstance(value, str):
            return value
        self.check_room(self.size(value, escaped=ESCAPED))
        return self.made(str(value))

    def size(self, value: Any, *, escaped: int = 1, indent: int = 0) -> int:
        """Bound the characters of a value's text.

        Arguments:
            value: the value; a list twice in a value counts twice.
            escaped: characters of the text for one character of a value.
            indent: characters that each level adds before an item.

        Raises:
            OverflowError: the text has more characters than the whole budget, or too many levels.
            TypeError: a namespace, which has no text.
        """
        size = 0
        levels: list[Iterator[Any]] = [iter((value,))]
        while levels:
            for each in levels[-1]:
                size += ITEM + indent * len(levels)
                inner = _inner(each)
                size += escaped * len(each) if isinstance(each, str) else 0
                if size > self._characters:
                    raise OverflowError(f"a list of more than {self._characters:,} characters")
                if inner is not None:
                    self.check_time()
                    levels.append(inner)
                    break
            else:
                levels.pop()
            if len(levels) > MAX_DEPTH:
                raise OverflowError(f"a list of more than {MAX_DEPTH} levels")
        return size


def _inner(value: Any) -> Iterator[Any] | None:
    """Return the values in a container, keys included; None for any other value."""
    if isinstance(value, Namespace):
        raise TypeError("a namespace has no text")
    if isinstance(value, dict):
        return chain.from_iterable(value.items())
    if isinstance(value, Collection) and not isinstance(value, str | range):
        return iter(value)
    return None


def check_width(value: Any, most: int = 1000) -> None:
    """Raise OverflowError for a width, a precision or an indentation of more characters than `most`."""
    size = len(value) if isinstance(value, str) else abs(value) if isinstance(value, int) else 0
    if size > most:
        raise OverflowError(f"a width of {shown(value)}, more than {most}")
