"""Files of every kind → rows, and errors that name file and line."""

import gzip
from encodings.aliases import aliases
from pathlib import Path
from typing import Any

import pytest

from triform.data import FileFormat, Files, find_format, formats
from triform.errors import InputError


def values(path: Path, content: str, **settings: Any) -> list[Any]:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return [row.values for row in Files(paths=[path], **settings)]


def test_texts(tmp_path: Path) -> None:
    assert values(tmp_path / "in.txt.gz", "one\ntwo\r\n") == [{"text": "one"}, {"text": "two"}]


def test_tables_with_columns_and_labels_renamed(tmp_path: Path) -> None:
    content = 'review,stars\n"good, I say",1\nbad,0\n'
    settings = {"columns": {"text": "review", "label": "stars"}, "labels": {"0": "negative"}}
    rows = values(tmp_path / "in.csv", content, **settings)
    assert [(row["text"], row["label"]) for row in rows] == [("good, I say", "1"), ("bad", "negative")]
    assert values(tmp_path / "in.tsv", "text\tlabel\na\tb\n") == [{"text": "a", "label": "b"}]


def test_json(tmp_path: Path) -> None:
    content = '{"text": "a", "labels": ["x", "y"], "score": 1.5}\n\n"b"\n'
    expected = [{"text": "a", "labels": ["X", "y"], "score": 1.5}, {"text": "b"}]
    assert values(tmp_path / "in.jsonl", content, labels={"x": "X"}) == expected


def test_conll(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\nAda NNP B-PER\nslept VBD O\n\n\nRome NNP B-LOC"
    assert values(tmp_path / "in.conll", content) == [
        {"tokens": ["Ada", "slept"], "tags": ["B-PER", "O"]},
        {"tokens": ["Rome"], "tags": ["B-LOC"]},
    ]


def test_a_pattern_takes_lines_apart(tmp_path: Path) -> None:
    rows = values(tmp_path / "in.all", "1 good film\n0 bad\n", pattern=r"(?P<label>\S+) (?P<text>.+)")
    assert rows == [{"label": "1", "text": "good film"}, {"label": "0", "text": "bad"}]


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes("café".encode("latin-1"))
    [row] = Files(paths=[tmp_path / "in.txt"], encoding="latin-1")
    assert row.values == {"text": "café"}


def test_files_one_after_another_and_side_by_side(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one\ntwo\n")
    second.write_text("eins\nzwei\n")
    assert [row.values["text"] for row in Files(paths=[first, second])] == ["one", "two", "eins", "zwei"]
    pairs = list(Files(paths={"source": first, "target": second}))
    assert [row.values for row in pairs] == [{"source": "one", "target": "eins"}, {"source": "two", "target": "zwei"}]
    assert pairs[1].where == f"{first}, line 2"
    second.write_text("eins\n")
    with pytest.raises(InputError, match=r"a.txt, .*b.txt: expected files of as many lines"):
        list(Files(paths={"source": first, "target": second}))


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("in.jsonl", '{"text": 1}\n{"text"\n', {}, "in.jsonl, line 2: not JSON"),
        ("in.jsonl", "[1]\n", {}, "in.jsonl, line 1: expected a JSON object or a text, got"),
        ("in.csv", "text,label\na,b\nc\n", {}, "in.csv, line 3: 1 cell, where the header has 2"),
        ("in.csv", "text\na\n", {"columns": {"label": "stars"}}, "in.csv, line 2: there is no stars among text"),
        ("in.conll", "a O\nb\n", {}, "in.conll, line 2: 1 column, where its sentence has 2"),
        ("in.txt", "x\n", {"pattern": r"(?P<label>\d) .*"}, "in.txt, line 1: the pattern"),
        ("in.txt", "x\n", {"pattern": "("}, "is not a regular expression"),
        ("in.txt", "x\n", {"pattern": "x"}, "names no group"),
        ("in.txt", "", {}, "in.txt is empty"),
        ("in.txt", "one\rtwo\r", {}, r"in.txt, line 1: a carriage return \(\\r\) within the line. Convert"),
        ("in.txt", "a\none\rtwo\n", {}, r"in.txt, line 2: a carriage return"),
        ("in.conll", "a O\rb O\r", {}, "in.conll, line 1: a carriage return"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, name: str, content: str, settings: dict[str, Any], message: str) -> None:
    settings = {"format": FileFormat.CONLL, **settings} if name.endswith("conll") else settings
    with pytest.raises(InputError, match=message):
        values(tmp_path / name, content, **settings)


def test_what_is_no_text_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(InputError, match="in.txt, line 2: not UTF-8"):
        list(Files(paths=[tmp_path / "in.txt"]))


def test_files_are_streamed(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.txt.gz", "wt") as file:
        file.write("a line\n" * 1000 + "\n")
    rows = iter(Files(paths=[tmp_path / "in.txt.gz", tmp_path / "missing.txt"]))
    assert next(rows).values == {"text": "a line"}  # nobody has looked for the second file yet


def test_a_bad_line_of_files_side_by_side_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"eins\n\xff\n")
    with pytest.raises(InputError, match="b.txt, line 2: not UTF-8"):
        list(Files(paths={"source": tmp_path / "a.txt", "target": tmp_path / "b.txt"}))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_encoding_of_python(tmp_path: Path, name: str, mark: str) -> None:
    content = {"a.txt": "text\nab\n\ncd", "a.csv": 'text\nab\n"\n"\ncd', "a.tsv": "text\nab\ncd\n"}[name]
    tried = []
    for encoding in sorted(set(aliases.values())):
        try:
            data = (mark + content).encode(encoding)
        except (LookupError, UnicodeError):  # no encoding of text, or without such a mark
            continue
        (tmp_path / name).write_bytes(data)
        rows = [row.values["text"] for row in Files(paths=[tmp_path / name], encoding=encoding)]
        assert rows == {"a.txt": ["text", "ab", "", "cd"], "a.csv": ["ab", "\n", "cd"], "a.tsv": ["ab", "cd"]}[name]
        tried.append(encoding)
    assert {"utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32"} <= set(tried)
    assert mark or len(tried) > 80


@pytest.mark.parametrize("encoding", ["latin-99", "rot13", "hex", "", "x\0y"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(InputError, match="encoding = .*expected an encoding that Python knows"):
        list(Files(paths=[tmp_path / "in.txt"], encoding=encoding))


def test_a_damaged_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes("ab\ncd\n".encode("utf-16") + b"\x00\xd8\n\0")
    with pytest.raises(InputError, match=r"in\.txt, after line 0: not UTF-16: illegal UTF-16 surrogate"):
        list(Files(paths=[tmp_path / "in.txt"], encoding="utf-16"))


@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
def test_a_column_twice_is_refused(tmp_path: Path, name: str) -> None:
    cut = "," if name == "in.csv" else "\t"
    with pytest.raises(InputError, match=f"{name}, line 1: the header names 'text' more than once"):
        values(tmp_path / name, cut.join(["text", "label", "text"]) + "\n" + cut.join("abc") + "\n")
    empty = values(tmp_path / name, cut.join(["", "text", ""]) + "\n" + cut.join("abc") + "\n")
    assert [row["text"] for row in empty] == ["b"]


def test_a_tsv_is_lines(tmp_path: Path) -> None:
    """A sentence may begin with a quotation mark, as in published data; a quoted cell is refused."""
    rows = values(tmp_path / "in.tsv", 'text\tlabel\n"I hate it\tneg\nsaid the man"\tpos\n"so"\tpos\n')
    assert [row["text"] for row in rows] == ['"I hate it', 'said the man"', '"so"']
    with pytest.raises(InputError, match=r"in\.tsv, line 2: .* is quoted as in CSV, and a TSV has no quotes"):
        values(tmp_path / "in.tsv", 'text\tlabel\n"a ""good"" film"\tpos\n')


def test_a_space_of_unicode_stands_within_a_word(tmp_path: Path) -> None:
    [row] = values(tmp_path / "in.conll", "10\u00a0000 CD O\neuro\u2003s\tNN\tB-X\n")
    assert row == {"tokens": ["10\u00a0000", "euro\u2003s"], "tags": ["O", "B-X"]}


@pytest.mark.parametrize(("name", "line"), [("in.csv", '"{}\n{}",'), ("in.conll", "{} {} O\n")])
def test_a_record_of_many_lines_has_a_limit(
    tmp_path: Path, name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quote that is left open, or a file without blank lines, is not read to its end."""
    monkeypatch.setattr(formats, "LONGEST_RECORD", 2**20)
    begin = "" if name == "in.conll" else "text,label\n"
    with pytest.raises(InputError, match=f"{name}, line {2 if begin else 1}: a record of more than 1 MiB"):
        values(tmp_path / name, begin + line.format("x" * 1000, "y" * 1000) * 1000, format=find_format(name))
