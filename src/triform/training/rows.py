"""Files of examples → rows, one after another, however large the files are."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from triform.data.files import Found, InputFormat, Source, format_of
from triform.errors import InputError

LABELS = ("label", "labels", "tags")
"""Fields that hold labels."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a person said of one example: a text and its label, a sentence and its translation."""

    values: Mapping[str, Any]
    where: str
    """The file and the line, for errors."""


class RowFormat(StrEnum):
    """How a file holds its rows."""

    TXT = "txt"
    """A `text` on each line."""
    CSV = "csv"
    """A table with a header, parted by commas."""
    TSV = "tsv"
    """The same, parted by tabs."""
    JSONL = "jsonl"
    """A JSON object on each line, or a `text`."""
    CONLL = "conll"
    """A word on each line with its tag in the last column, a blank line behind each sentence: `tokens` and `tags`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where rows are, and how to read them.

    Any file may be packed with gzip; without a format its name says it.
    """

    paths: Sequence[Path] | Mapping[str, Path]
    """Files one after another; or by the name of a field, files side by side, of which each line is one value."""
    format: RowFormat | None = None
    pattern: str | None = None
    """A regular expression whose named groups are the values of each line, such as `(?P<label>\\S+) (?P<text>.+)`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field → its name in the file, where that is another."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """How the file writes a label → what it is called, of `label`, `labels` and `tags`."""
    encoding: str = "utf-8"

    def __iter__(self) -> Iterator[Row]:
        """The rows.

        Raises:
            InputError: a file cannot be read, or a row, which is named by file and line.
        """
        if isinstance(self.paths, Mapping):
            yield from self._side_by_side(self.paths)
            return
        for path in self.paths:
            with ExitStack() as stack:
                for found in self._found(str(path), stack):
                    if not found.is_blank:
                        yield Row(self._values(found), found.where)

    def all_paths(self) -> list[Path]:
        """Every file."""
        return list(self.paths.values() if isinstance(self.paths, Mapping) else self.paths)

    def _found(self, path: str, stack: ExitStack) -> Iterator[Found]:
        source = Source(path, stack, encoding=self.encoding)
        if self.pattern is not None:
            return source.matches(_compiled(self.pattern))
        match self.format or format_of(path, RowFormat) or RowFormat.TXT:
            case RowFormat.TXT:
                return source.texts()
            case RowFormat.JSONL:
                return source.values()
            case RowFormat.CONLL:
                return source.sentences()
            case table:
                return source.records(InputFormat(table))

    def _values(self, found: Found) -> Mapping[str, Any]:
        if found.error:
            raise InputError(f"{found.where}: {found.error}")
        match found.value:
            case str(text):
                values: dict[str, Any] = {"text": text}
            case dict(values):
                pass
            case other:
                raise InputError(f"{found.where}: expected a JSON object or a text, got {type(other).__name__}.")
        missing = [name for name in self.columns.values() if name not in values]
        if missing:
            raise InputError(f"{found.where}: there is no {', '.join(missing)} among {', '.join(values)}.")
        values = {**values, **{name: values[column] for name, column in self.columns.items()}}
        return {**values, **{name: self._named(values[name]) for name in LABELS if name in values and self.labels}}

    def _named(self, label: Any) -> Any:
        if isinstance(label, list):
            return [self._named(one) for one in label]
        return self.labels.get(str(label), label)

    def _side_by_side(self, paths: Mapping[str, Path]) -> Iterator[Row]:
        with ExitStack() as stack:
            files = [Source(str(path), stack, encoding=self.encoding).texts() for path in paths.values()]
            try:
                for lines in zip(*files, strict=True):
                    for line in lines:
                        if line.error:
                            raise InputError(f"{line.where}: {line.error}")
                    yield Row(dict(zip(paths, (line.value for line in lines), strict=True)), lines[0].where)
            except ValueError as error:
                names = ", ".join(map(str, paths.values()))
                raise InputError(
                    f"{names}: expected files of as many lines each, since line goes with line."
                ) from error


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"pattern = {pattern!r} is no regular expression: {error}.") from error
    if not compiled.groupindex:
        raise InputError(f"pattern = {pattern!r} names no group; write those that are values as (?P<text>…).")
    return compiled
