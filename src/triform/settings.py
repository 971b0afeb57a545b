"""Settings files of a checkpoint: every key is followed, checked, harmless, or refused by name.

A reader of a file follows some keys (`Settings.string`, `Settings.integer` …), checks that others have the value that
Triform implements (`Settings.expect`), accepts keys without influence on an answer (`Settings.ignore`), and refuses all
other keys (`Settings.close`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn, Self

from triform.errors import UnsupportedModelError, shown
from triform.hub import Checkpoint

MAX_SIZE = 2**31 - 1
"""The largest number in a file. Arrays need no other limit, since shapes are compared with the checkpoint's."""

MAX_FLOAT32 = 3.4e38

MAX_LISTED = 20
"""Most unknown keys in one message."""

REQUIRED: Any = object()
"""The default of a key that must be present."""


class KeyUse(StrEnum):
    """What Triform does with a key of a settings file."""

    FOLLOWED = "followed"
    """The value changes what Triform computes."""
    CHECKED = "checked"
    """The value must be the one that Triform implements."""
    HARMLESS = "harmless"
    """The value changes no answer."""


class Settings:
    """Typed reads of a JSON object. A null counts as absent, as in the reference implementation.

    Arguments:
        values: the contents.
        where: the path of the file, for messages.
        report: receives the use of each key of the object, for `triform describe`.
    """

    def __init__(self, values: Mapping[str, Any], where: str, report: dict[str, KeyUse] | None = None) -> None:
        self.where = where
        self._values = values
        self._known: set[str] = set()
        self._report = {} if report is None else report

    @classmethod
    def of_file(cls, checkpoint: Checkpoint, name: str) -> Self:
        """Read a JSON file with an object."""
        report = checkpoint.report.setdefault(name, {})
        return cls(checkpoint.read_object(name), str(checkpoint.folder / name), report)

    def _note(self, key: str, use: KeyUse) -> None:
        self._known.add(key)
        # Several readers may share a file, and a key that one of them follows is not harmless.
        if key in self._values and self._report.get(key) is not KeyUse.FOLLOWED:
            self._report[key] = use

    def _read(self, key: str, default: Any, expected: str, *types: type) -> Any:
        self._note(key, KeyUse.FOLLOWED)
        value = self._values.get(key)
        if value is None:
            if default is REQUIRED:
                raise UnsupportedModelError(f"{self.where}: {key} is missing; expected {expected}.")
            return default
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.refuse(key, expected)
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise UnsupportedModelError for the value of a key.

        Arguments:
            key: the key.
            expected: the values that are allowed, for the message.
        """
        raise UnsupportedModelError(f"{self.where}: {key} is {shown(self._values.get(key))}; expected {expected}.")

    def default(self, key: str, value: Any) -> None:
        """Set the value of an absent key."""
        if self._values.get(key) is None:
            self._values = {**self._values, key: value}

    def mentions(self, key: str) -> bool:
        """Return whether the key is present, even with a null."""
        return key in self._values

    def value(self, key: str, use: KeyUse = KeyUse.FOLLOWED) -> Any:
        """Read any value, for a caller with rules of its own; None for an absent key."""
        self._note(key, use)
        return self._values.get(key)

    def integer(self, key: str, default: int = REQUIRED, *, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
        """Read a whole number from `minimum` to `maximum`."""
        expected = f"a whole number of at least {minimum} and at most {maximum}"
        value: int = self._read(key, default, expected, int)
        if not minimum <= value <= maximum:
            self.refuse(key, expected)
        return value

    def optional_integer(self, key: str) -> int | None:
        """Read a whole number of at least 1; None for an absent key."""
        self._note(key, KeyUse.FOLLOWED)
        return None if self._values.get(key) is None else self.integer(key)

    def quotient(self, key: str, divisor: str) -> int:
        """Read two whole numbers and return their quotient. The quotient must be whole."""
        dividend, by = self.integer(key), self.integer(divisor)
        if dividend % by:
            self.refuse(key, f"a multiple of {divisor}, which is {by}")
        return dividend // by

    def number(self, key: str, default: float = REQUIRED) -> float:
        """Read a number above 0, within the range of float32."""
        expected = f"a number above 0 and below {MAX_FLOAT32:g}"
        value = self._read(key, default, expected, int, float)
        if not 0 < value < MAX_FLOAT32:
            self.refuse(key, expected)
        return float(value)

    def rate(self, key: str, default: float = 0.0) -> float:
        """Read a rate of dropout, at least 0 and below 1."""
        expected = "a number of at least 0 and below 1"
        value = self._read(key, default, expected, int, float)
        if not 0 <= value < 1:
            self.refuse(key, expected)
        return float(value)

    def boolean(self, key: str, default: bool = REQUIRED) -> bool:
        """Read true or false."""
        return bool(self._read(key, default, "true or false", bool))

    def string(self, key: str, default: str = REQUIRED) -> str:
        """Read a string."""
        return str(self._read(key, default, "a string", str))

    def optional_string(self, key: str) -> str | None:
        """Read a string; None for an absent key."""
        self._note(key, KeyUse.FOLLOWED)
        return None if self._values.get(key) is None else self.string(key)

    def strings(self, key: str, default: tuple[str, ...] = REQUIRED) -> tuple[str, ...]:
        """Read a list of strings."""
        values = self._read(key, default, "a list of strings", list, tuple)
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, "a list of strings")
        return tuple(values)

    def one_or_more_strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Read a list of strings, or a single string."""
        return (self.string(key),) if isinstance(self._values.get(key), str) else self.strings(key, default)

    def texts(self, key: str) -> dict[str, str]:
        """Read an object of strings; an absent key counts as an empty object."""
        values = self.mapping(key) or {}
        if not all(isinstance(value, str) for value in values.values()):
            self.refuse(key, "an object of strings")
        return dict(values)

    def optional(self, key: str, expected: str, *types: type) -> Any:
        """Read a value of one of several types; None for an absent key."""
        return self._read(key, None, expected, *types)

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """Read an object; None for an absent key."""
        value: Mapping[str, Any] | None = self._read(key, None, "an object", dict)
        return value

    def expect(self, key: str, *allowed: Any) -> None:
        """Refuse a key unless the key is absent or has an allowed value."""
        self._note(key, KeyUse.CHECKED)
        value = self._values.get(key)
        if value is not None and value not in allowed:
            self.refuse(key, f"{' or '.join(map(repr, allowed))}, which is all that Triform implements")

    def agree(self, key: str, value: Any, other: str) -> None:
        """Refuse a key that contradicts another key, unless the key is absent.

        Arguments:
            key: the key.
            value: the value by the other key.
            other: the other key.
        """
        self._note(key, KeyUse.CHECKED)
        if self._values.get(key) not in (None, value):
            self.refuse(key, f"{value!r} by {other}, which is {shown(self._values.get(other))}; correct one of them")

    def ignore(self, *keys: str) -> None:
        """Accept keys without influence on an answer, with any value."""
        for key in keys:
            self._note(key, KeyUse.HARMLESS)

    def close(self) -> None:
        """Refuse all keys not yet read, expected or ignored; an empty object counts as absent, like a null."""
        unknown = {
            key: value for key, value in self._values.items() if key not in self._known and value not in (None, {})
        }
        if unknown:
            listed = [f"{shown(key)[1:-1]} = {shown(value)}" for key, value in list(unknown.items())[:MAX_LISTED]]
            more = [f"and {len(unknown) - MAX_LISTED} more"] if len(unknown) > MAX_LISTED else []
            raise UnsupportedModelError(
                f"{self.where}: Triform does not know these keys, so it cannot say whether they change the answers:\n  "
                + "\n  ".join(listed + more)
                + "\nIf they do not matter, take them out of a copy of the file."
            )
