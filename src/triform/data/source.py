"""Lines of a file or of standard input, decompressed, decoded and numbered."""

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import IO, Self, cast

from triform.data.row import Row
from triform.errors import InputError

LONGEST_LINE = 16 * 2**20
"""Most bytes of a line and characters of a cell. More means another kind of file, or a quote that is left open."""

LONGEST_RECORD = 4 * LONGEST_LINE
"""Most characters of a record that has several lines: of a table, or the words of a sentence."""
CHUNK = 2**16
"""Bytes that are decoded at once."""


class Source:
    """Reads the lines of a file, compressed with gzip or not, or of standard input.

    A context manager: leaving it closes the file.

    Arguments:
        path: the file; a name that ends in .gz is decompressed, "-" is standard input.
        encoding: of the text, as Python names it.

    Raises:
        InputError: the file cannot be opened, or the encoding is unknown.
    """

    def __init__(self, path: str | Path, *, encoding: str = "utf-8") -> None:
        path = str(path)
        self.name = "standard input" if path == "-" else path
        self.encoding = encoding
        self.num_blank_lines = 0
        """Lines read so far that held no row."""
        self.num_bytes: int | None = None
        """Bytes on disk; None where the size is not known."""
        self._opened = ExitStack()
        try:
            # In most encodings the byte of a line end is nothing else, so that lines can be cut first.
            self._is_cut_by_byte = "\n".encode(encoding) == b"\n"
        except (LookupError, ValueError) as error:
            raise InputError(
                f"encoding = {encoding!r}: expected an encoding that Python knows, such as utf-8."
            ) from error
        if path == "-":
            self._raw = self._lines = cast(IO[bytes], sys.stdin.buffer)
            return
        try:
            self._raw = self._lines = self._opened.enter_context(open(path, "rb"))  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
        if Path(path).is_file():
            self.num_bytes = Path(path).stat().st_size
        if path.endswith(".gz"):
            self._lines = BufferedReader(self._opened.enter_context(gzip.GzipFile(fileobj=self._raw)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def position(self) -> int:
        """Bytes read so far, of `num_bytes`."""
        return self._raw.tell()

    def lines(self) -> Iterator[Row]:
        """Read each line as text, line ending included; an undecodable line is a row with an error.

        Raises:
            InputError: the file is empty or damaged, or a line is longer than `LONGEST_LINE`.
        """
        lines = self._lines_cut_by_byte() if self._is_cut_by_byte else self._decoded_lines()
        number = 0
        for number, row in enumerate(lines, 1):
            yield Row(row.values.removeprefix("\ufeff"), row.where) if number == 1 and row.values else row
        if not number:
            raise InputError(f"{self.name} is empty: expected at least one row.")

    def _lines_cut_by_byte(self) -> Iterator[Row]:
        """Cut lines, and decode each; an undecodable line is a row with an error."""
        for number, line in enumerate(self._lines_of_bytes(), 1):
            where = f"{self.name}, line {number}"
            try:
                yield Row(line.decode(self.encoding), where)
            except UnicodeDecodeError as error:
                yield Row(None, where, self._not_decoded(error))

    def _decoded_lines(self) -> Iterator[Row]:
        """Decode the file, and cut lines.

        Raises:
            InputError: the file cannot be decoded, so that the next line cannot be found.
        """
        decoder, rest, number = codecs.getincrementaldecoder(self.encoding)(), "", 0
        while True:
            try:
                data = self._lines.read(CHUNK)
                rest += decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise InputError(f"{self.name}, after line {number}: {self._not_decoded(error)}") from error
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{self.name} cannot be read beyond line {number}: {error}") from error
            *whole, rest = rest.split("\n")
            if not data and rest:
                whole, rest = [*whole, rest], ""
            for line in whole:
                number += 1
                yield Row(line + "\n", f"{self.name}, line {number}")
            if len(rest) > LONGEST_LINE:
                raise self._too_long(number + 1)
            if not data:
                return

    def _not_decoded(self, error: UnicodeDecodeError) -> str:
        return f"not {self.encoding.upper()}: {error.reason} at byte {error.start}. Convert the file first."

    def _too_long(self, number: int) -> InputError:
        return InputError(f"{self.name}, line {number}: longer than {LONGEST_LINE >> 20} MiB. Is it text?")

    def _lines_of_bytes(self) -> Iterator[bytes]:
        number = 0
        try:
            while line := self._lines.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise self._too_long(number)
                yield line
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} cannot be read beyond line {number}: {error}") from error
