"""The rows of one file: formats, blank lines, and errors as values."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from triform.data import FileFormat, Row, Source, find_format, read_rows
from triform.errors import InputError


def read(path: Path, content: bytes, format: FileFormat) -> tuple[list[Row], int]:
    """Return the rows, and the number of blank lines."""
    path.write_bytes(content)
    with Source(path) as source:
        return list(read_rows(source, format)), source.num_blank_lines


def test_bad_rows_are_values(tmp_path: Path) -> None:
    path = tmp_path / "in"
    rows, num_blank_lines = read(path, b'{"a": 1}\n \n{\n"\xff"\n2', FileFormat.JSONL)
    assert [row.values for row in rows] == [{"a": 1}, None, None, 2]
    assert [row.where for row in rows] == [f"{path}, line {number}" for number in (1, 3, 4, 5)]
    assert [(row.error or "")[:9] for row in rows] == ["", "not JSON:", "not UTF-8", ""]
    assert num_blank_lines == 1


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "in"
    headers: list[tuple[Sequence[str], str]] = []
    path.write_bytes(b'\xef\xbb\xbfa,b\n\n"1\n2",3\n4\n')
    with Source(path) as source:
        rows = list(
            read_rows(source, FileFormat.CSV, check_header=lambda header, where: headers.append((header, where)))
        )
        assert source.num_blank_lines == 1
    assert headers == [(["a", "b"], f"{path}, line 1")]
    assert rows == [
        Row({"a": "1\n2", "b": "3"}, f"{path}, line 3"),
        Row(None, f"{path}, line 5", "1 cell, where the header has 2."),
    ]


def test_blank_lines_of_text_are_rows(tmp_path: Path) -> None:
    rows, num_blank_lines = read(tmp_path / "in", b"\r\none\n", FileFormat.TXT)
    assert [row.values for row in rows] == ["", "one"]
    assert num_blank_lines == 0


def test_the_bytes_that_were_read_are_known(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("one\n" * 10)
    with Source(tmp_path / "in") as source:
        rows = read_rows(source, FileFormat.TXT)
        next(rows)
        assert (source.position, source.num_bytes) == (4, 40)


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.txt", "txt"), ("a.CSV", "csv"), ("a.jsonl.gz", "jsonl"), ("a.conll", "conll"), ("a.dat", None), ("a", None)],
)
def test_the_name_of_a_file_says_its_format(name: str, format: str | None) -> None:
    assert find_format(name) == format
    assert find_format("a.conll", (FileFormat.TXT,)) is None


def test_a_json_file_has_no_rows() -> None:
    with pytest.raises(InputError, match=r"a.json: rows are read from .txt, .csv, .tsv and .jsonl"):
        find_format("a.json")
