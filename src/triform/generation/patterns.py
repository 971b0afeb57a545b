"""The size of a regular expression with its counted repetitions written out, which the compiler may do."""

import re

from triform.errors import InputError

MAX_SIZE = 100_000
"""Most characters of an expression with repetitions written out."""

PARTS = re.compile(
    r"""\\. | \[(?:\\.|[^\]\\])+\] | (?P<open>\() | (?P<close>\))
    | \{(?P<least>[0-9]{1,9})(?:,(?P<most>[0-9]{0,9}))?\} | .""",
    re.DOTALL | re.VERBOSE,
)
"""An escape, a class, a bracket, a count, or any character."""


def check_pattern(name: str, pattern: str) -> None:
    """Refuse an expression whose repetitions of repetitions are too many.

    Arguments:
        name: the argument or keyword, for the error.
        pattern: the expression; one with errors in its syntax may pass.

    Raises:
        InputError: more than `MAX_SIZE` characters.
    """
    sizes, last = [0], 0
    """The size of each open group, and of the part that a count would repeat."""
    for part in PARTS.finditer(pattern):
        if part["open"]:
            sizes.append(0)
            last = 0
        elif part["close"]:
            last = sizes.pop() if len(sizes) > 1 else 0
            sizes[-1] += last
        elif part["least"]:
            repeated = last * max(int(part["most"] or part["least"]), 1)
            sizes[-1] += repeated - last
            last = repeated
        else:
            last = 1
            sizes[-1] += 1
        if sizes[-1] > MAX_SIZE:
            raise InputError(
                f"{name}: {pattern[:100]!r} has more than {MAX_SIZE:,} characters with its repetitions written out. "
                "Repeat less."
            )
