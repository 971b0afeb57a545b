"""Standard streams: open and able to write any text; and text of files made safe for a terminal."""

import os
import sys
from io import TextIOWrapper
from typing import BinaryIO, cast

from triform.errors import OutputError

PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
PICTURES |= dict.fromkeys(range(128, 160), 0xFFFD)


def printable(text: str) -> str:
    """Replace control characters by pictures: a terminal would obey them, for example to change its title."""
    return text.translate(PICTURES)


def answer_stream() -> BinaryIO:
    """Return standard output as a stream of bytes: as it is, or for a terminal with control characters replaced."""
    stream = sys.stdout.buffer
    return cast(BinaryIO, _PrintableStream(stream)) if sys.stdout.isatty() else stream


class _PrintableStream:
    """Writes bytes of text to a terminal, control characters replaced."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, content: bytes) -> None:
        """Write whole lines in UTF-8."""
        self._stream.write(printable(content.decode()).encode())

    def flush(self) -> None:
        """Write what is buffered."""
        self._stream.flush()


def discard_output() -> None:
    """Send the rest of standard output nowhere: where it cannot be written, the end of Python would fail as well."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def prepare_streams() -> None:
    """Make the standard streams usable.

    A closed standard input is empty, and messages for a closed standard error are lost. What goes to a file or a pipe
    is UTF-8; a terminal of another encoding gets escapes for characters that it lacks.

    Raises:
        OutputError: standard output is closed.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        raise OutputError("Standard output is closed, so no answer can be written. Send it to a file or a pipe.")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (cast(TextIOWrapper, sys.stdout), cast(TextIOWrapper, sys.stderr)):
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
