"""Files of examples → rows of named values, for training and evaluation."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from triform.data.formats import FileFormat, find_format, read_matches, read_rows
from triform.data.row import Row
from triform.data.source import Source
from triform.errors import InputError

LABELS = ("label", "labels", "tags")
"""Fields that hold labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Files of examples, and how to read them; iterating reads the rows anew.

    Any file may be compressed with gzip; without a format the file's name says the format, else it is txt. Each row is
    valid and has a mapping of named values; a plain text is the value `text`.
    """

    paths: Sequence[Path] | Mapping[str, Path]
    """Files one after another; or field → file, side by side, of which each line is one value."""
    format: FileFormat | None = None
    pattern: str | None = None
    """A regular expression whose named groups are the values of each line, such as `(?P<label>\\S+) (?P<text>.+)`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field → its name in the file, where the names differ."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label in the file → label of the row, for the fields `label`, `labels` and `tags`."""
    encoding: str = "utf-8"

    def __iter__(self) -> Iterator[Row]:
        """Read the rows.

        Raises:
            InputError: a file or a row cannot be read; the message names file and line.
        """
        if isinstance(self.paths, Mapping):
            yield from self._side_by_side(self.paths)
            return
        for path in self.paths:
            with Source(path, encoding=self.encoding) as source:
                for row in self._read(source, path):
                    yield Row(self._named_values(row), row.where)

    def all_paths(self) -> list[Path]:
        """List every file."""
        return list(self.paths.values() if isinstance(self.paths, Mapping) else self.paths)

    def _read(self, source: Source, path: Path) -> Iterator[Row]:
        if self.pattern is not None:
            return read_matches(source, _compiled(self.pattern))
        return read_rows(source, self.format or find_format(path) or FileFormat.TXT)

    def _named_values(self, row: Row) -> Mapping[str, Any]:
        match _sound(row).values:
            case str(text):
                values: dict[str, Any] = {"text": text}
            case dict(values):
                pass
            case other:
                raise InputError(f"{row.where}: expected a JSON object or a text, got {type(other).__name__}.")
        missing = [name for name in self.columns.values() if name not in values]
        if missing:
            raise InputError(f"{row.where}: there is no {', '.join(missing)} among {', '.join(values)}.")
        values = {**values, **{name: values[column] for name, column in self.columns.items()}}
        return {**values, **{name: self._renamed(values[name]) for name in LABELS if name in values and self.labels}}

    def _renamed(self, label: Any) -> Any:
        if isinstance(label, list):
            return [self._renamed(each) for each in label]
        return self.labels.get(str(label), label)

    def _side_by_side(self, paths: Mapping[str, Path]) -> Iterator[Row]:
        with ExitStack() as stack:
            sources = [stack.enter_context(Source(path, encoding=self.encoding)) for path in paths.values()]
            files = [read_rows(source, FileFormat.TXT) for source in sources]
            for lines in zip_longest(*files):
                if None in lines:
                    names = ", ".join(map(str, paths.values()))
                    raise InputError(f"{names}: expected files of as many lines each, since line goes with line.")
                texts = [_sound(line).values for line in lines]
                yield Row(dict(zip(paths, texts, strict=True)), lines[0].where)


def _sound(row: Row) -> Row:
    """Return the row.

    Raises:
        InputError: the row carries an error.
    """
    if row.error:
        raise InputError(f"{row.where}: {row.error}")
    return row


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"pattern = {pattern!r} is not a regular expression: {error}.") from error
    if not compiled.groupindex:
        raise InputError(f"pattern = {pattern!r} names no group. Write each value as a group, such as (?P<text>…).")
    return compiled
