"""Streams and disks that fail end in one message with a remedy; and a terminal obeys no text of a model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import checkpoints
from tests.cli.terminal import Terminal
from triform.cli.streams import printable

SENTIMENT = ("run", "sentiment-analysis")
TRANSLATION = Path("src/triform/demo/models/translation").resolve()


def shell(redirection: str, *arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run the command with streams as a shell redirects them."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "triform", *map(str, arguments)]
    settings = os.environ | {"COLUMNS": "160"} | environment
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=settings, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "arguments", "code", "message"),
    [
        (">&-", (*SENTIMENT, "fine"), 7, b"Standard output is closed"),
        (">/dev/full", (*SENTIMENT, "fine"), 7, b"Standard output cannot be read or written: No space left"),
        (">/dev/full", ("describe", TRANSLATION), 7, b"Standard output cannot be read or written: No space left"),
        (">/dev/full", ("--help",), 7, b"Standard output cannot be read or written: No space left"),
        ("<&-", (*SENTIMENT, "--input", "-"), 3, b"standard input is empty"),
        ("2>&-", (*SENTIMENT, "fine"), 0, b""),
        ("2>&-", (*SENTIMENT, "--input", "/none.txt"), 3, b""),
        ("2>/dev/full", (*SENTIMENT, "fine"), 7, b""),
    ],
)
def test_a_stream_that_fails_is_one_message(
    redirection: str, arguments: tuple[str, ...], code: int, message: bytes
) -> None:
    done = shell(redirection, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert b"unexpected" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "arguments",
    [("demo", "translation", "My cat is sleeping."), ("describe", TRANSLATION), ("tokenize", TRANSLATION, "Käse 😀")],
)
def test_a_pipe_receives_utf_8(arguments: tuple[str, ...], encoding: str) -> None:
    done = shell("", *arguments, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.decode("utf-8").isascii()


@pytest.mark.slow
def test_a_full_disk_says_how_to_go_on(tmp_path: Path) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("I love it.\n" * 4000)
    limited = ["sh", "-c", 'ulimit -f 100; trap "" XFSZ; exec "$@"', "sh", sys.executable, "-m", "triform"]
    for output, message in (
        (tmp_path / "out.jsonl", "rows are answered, in"),
        (tmp_path / f"{'a' * 249}.jsonl", "cannot be opened: File name too long"),
        (tmp_path / f"{'a' * 242}.jsonl", "File name too long"),
        (tmp_path / f"{'a' * 300}.jsonl", "cannot be opened: File name too long"),
    ):
        command = [*limited, *SENTIMENT, "--input", str(rows), "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode in (3, 7)
        assert message in done.stderr
        assert "unexpected" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"rows.txt", "out.jsonl.part", "out.jsonl.part.json"}
    resumed = shell("", *SENTIMENT, "--input", rows, "--output", tmp_path / "out.jsonl", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4000
    quantize = [*limited, "quantize", str(TRANSLATION), "--format", "int8", "--output", str(tmp_path / "q")]
    done = subprocess.run(quantize, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 7
    assert f"{tmp_path / 'q'} cannot be written: " in done.stderr
    assert not list((tmp_path / "q").iterdir())


def test_control_characters_are_pictures() -> None:
    assert printable("a\x1b]0;x\x07\x1b[2J\x9b\x7f\tb\n") == "a␛]0;x␇␛[2J\ufffd␡\tb\n"
    assert printable("Käse 東 😀") == "Käse 東 😀"


@pytest.mark.slow
def test_a_terminal_obeys_no_text_of_a_model(minilm: Path, tmp_path: Path) -> None:
    bad = "\x1b]0;title\x07\x1b[2J"
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    labels = {str(number): f"{bad}{number}" for number in range(2)}
    config |= {"id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}
    (folder / "config.json").write_text(json.dumps(config))
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "config.json").write_text(json.dumps({**config, bad: 1}))
    run = ("run", "text-classification", "fine", "-m", folder)
    for arguments in (run, ("describe", folder), ("describe", broken)):
        terminal = Terminal(*arguments)
        shown = terminal.read_until(r"title")
        terminal.process.wait(timeout=60)
        assert "\x1b]0" not in shown
        assert "␛]0;" in shown or r"\x1b]0;" in shown  # a picture, or as Python writes it
    done = shell("", "describe", broken)
    assert "\x1b" not in done.stderr.decode()
    done = shell("", "run", "text-classification", "fine", "-m", folder, "--json")
    assert json.loads(done.stdout)["label"].startswith(bad)
