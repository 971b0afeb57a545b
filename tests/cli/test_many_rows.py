"""`triform run` over many rows: options, messages, and kills at any moment."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests import checkpoints
from tests.cli.interruptions import answered, kill, kill_and_resume, memory_by_rows, start, wait_for, write_rows
from tests.cli.test_cli import triform_command


@pytest.fixture(scope="module")
def model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.bert("BertModel", minilm, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classifier(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return checkpoints.bert("BertForSequenceClassification", minilm, folder, num_labels=2)


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_ten_kills_lose_and_repeat_no_row(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.txt", 4000)
    task = ("embed", "-m", model, "-i", rows, "--token-budget", "700", "-o")
    whole, pieces = tmp_path / "whole.jsonl", tmp_path / "pieces.jsonl"
    assert start(*task, whole).wait() == 0
    moments = kill_and_resume(task, pieces, count=4000, kills=10)
    assert len(moments) > 5
    assert pieces.read_bytes() == whole.read_bytes(), moments
    assert whole.read_bytes().count(b"\n") == 4000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces.jsonl", "rows.txt", "whole.jsonl"]


@pytest.mark.slow
def test_a_torn_end_is_cut_off_wherever_it_tears(minilm: Path, tmp_path: Path) -> None:
    """Text answers of several lines, a task of one input per call, and bytes missing from the account."""
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "model", num_labels=1)
    given = [{"query": f"query {n}", "documents": ["one", "two", f"three {n}"]} for n in range(600)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, given)))
    task = ("rerank", "-m", folder, "-i", tmp_path / "in.jsonl", "-o")
    assert start(*task, tmp_path / "whole.txt").wait() == 0
    process, part = start(*task, tmp_path / "out.txt"), tmp_path / "out.txt.part"
    wait_for(process, tmp_path / "out.txt", 50)
    assert kill(process)
    with part.open("ab") as file:
        file.write(b"1  0.25")
    assert start(*task, tmp_path / "out.txt", "--resume").wait() == 0
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "whole.txt").read_bytes()


def test_ctrl_c_says_how_to_go_on(model: Path, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "rows.txt", 20_000), tmp_path / "out.jsonl"
    task = ("embed", "-m", model, "-i", rows, "-o", output)
    with start(*task, stderr=subprocess.PIPE) as process:
        assert process.stderr
        wait_for(process, output, 500)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait() == 130
    assert "rows are answered" in said
    assert "Resume the run to go on" in said
    assert "Traceback" not in said
    assert not output.exists()


@pytest.mark.slow
def test_what_is_there_already_is_not_touched_unasked(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    rows = tmp_path / "rows.txt"
    rows.write_text("one\ntwo\nthree\n" + "x " * 200 + "\nfive\n")
    task = ("run", "embed", "-m", model, "-i", rows, "-o", output)
    code, _, err = triform_command(*task)
    assert code == 3
    assert "rows.txt, line 4: the text has 202 tokens, more than the 128 that fit" in err
    assert "3 rows are answered, in " in err
    part = tmp_path / "out.jsonl.part"
    assert len(lines_of(part.read_text())) == 3
    code, _, err = triform_command(*task)
    assert code == 3
    assert "an unfinished run left out.jsonl.part beside it" in err
    code, _, err = triform_command(*task, "--resume", "--dtype", "float16")
    assert code == 3
    assert "dtype was 'auto', is 'float16'" in err
    rows.write_text("one\ntwo\nthree\nfour\nfive\n")  # the row is mended
    assert triform_command(*task, "--resume") == (0, "", "")
    expected = triform.pipeline("embed", model=model)(["one", "two", "three", "four", "five"])
    np.testing.assert_array_equal(np.array(lines_of(output.read_text()), np.float32), expected)
    code, _, err = triform_command(*task)
    assert code == 3
    assert "is there already" in err
    code, _, err = triform_command(*task, "--resume")
    assert code == 0
    assert "is whole" in err
    rows.write_text("another\n")
    assert triform_command(*task, "--overwrite")[0] == 0
    assert len(lines_of(output.read_text())) == 1


@pytest.mark.slow
def test_a_changed_input_is_refused(model: Path, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "rows.txt", 40_000), tmp_path / "out.jsonl"
    task = ("embed", "-m", model, "-i", rows, "-o", output)
    process = start(*task)
    wait_for(process, output, 300)
    code, _, err = triform_command("run", *task, "--resume")
    assert code == 3
    assert "is being written by another process" in err
    assert kill(process)
    rows.write_text(rows.read_text().replace("\n100 ", "\nhundred ", 1))
    before = answered(output)
    code, _, err = triform_command("run", *task, "--resume")
    assert code == 3
    assert "rows of the input are not the rows that it answers" in err
    assert answered(output) == before


def test_bad_rows_are_counted(model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'"one"\n{broken\n\n7\n"six"')
    task = ("run", "embed", "-m", model, "-i", rows, "--on-error", "skip", "--json")
    code, out, err = triform_command(*task)
    assert code == 0
    one, *bad, six = lines_of(out)
    expected = triform.pipeline("embed", model=model)(["one", "six"])
    np.testing.assert_array_equal(np.array([one, six], np.float32), expected)
    assert len(bad) == 2
    assert "2 of 4 rows could not be answered" in err
    assert "1 blank line held no row" in err
    rows.write_text("7\n")
    code, _, err = triform_command(*task)
    assert code == 3
    assert "error: 1 of 1 rows could not be answered" in err


def test_a_bad_row_stops_a_stream(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n" + "x " * 200)
    code, out, err = triform_command("run", "embed", "-m", model, "-i", tmp_path / "in.txt", "--json")
    expected = triform.pipeline("embed", model=model)(["one"])
    assert code == 3
    np.testing.assert_array_equal(np.array(lines_of(out), np.float32), expected)
    assert err.startswith(f"error: {tmp_path / 'in.txt'}, line 2: the text has 202 tokens")
    assert "--on-error" not in err


@pytest.mark.slow
def test_columns_and_standard_input(classifier: Path, tmp_path: Path) -> None:
    classify = triform.pipeline("text-classification", model=classifier)
    pairs = [{"text": 'one, "two"\nthree', "text_pair": "four"}, {"text": "", "text_pair": "5"}]
    table = '\ufeffid,text,text_pair\r\n1,"one, ""two""\nthree",four\r\n2,,5\r\n'
    task = ("run", "text-classification", "-m", classifier, "--json", "-i")
    code, out, _ = triform_command(*task, "-", "--input-format", "csv", stdin=table)
    assert (code, lines_of(out)) == (0, classify(pairs))
    (tmp_path / "in.tsv").write_text("a=b\tother\nfour\t5\n")
    both = ("-c", "text=a=b", "-c", "text_pair=other")
    expected = classify([{"text": "four", "text_pair": "5"}])
    assert lines_of(triform_command(*task, tmp_path / "in.tsv", *both)[1]) == expected
    single = lines_of(triform_command(*task, tmp_path / "in.tsv", "--column", "a=b")[1])
    assert single == classify(["four"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-i", "in.csv"), 3, "line 1: the columns are a, b. Name the column to read"),
        (("-i", "in.csv", "-c", "a", "-c", "text=b"), 3, "--column text=b: text is read from 'a' already"),
        (("-i", "in.csv", "--input-format", "conll"), 2, "not one of 'txt', 'csv', 'tsv', 'jsonl'"),
        (("-i", "in.csv", "--resume"), 2, "--resume and --overwrite are for --output FILE"),
        (("-i", "in.csv", "--resume", "--overwrite", "-o", "out.txt"), 2, "give either --resume or --overwrite"),
        (("-i", "in.csv", "-o", "out.npy", "--json"), 3, "makes no array"),
        (("-i", "in.csv", "-c", "a", "-o", "/dev/null", "--resume"), 3, "/dev/null is not a regular file"),
        (("one", "-c", "text"), 2, "--column is for --input FILE"),
        (("-i", "in.json"), 3, "in.json cannot be opened"),
    ],
)
def test_wrong_options_are_told(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("a,b\n1,2\n")
    actual, _, err = triform_command("run", "text-classification", "-m", classifier, *options)
    assert actual == code
    assert message in err
    assert "Traceback" not in err


@pytest.mark.serial
@pytest.mark.slow
def test_memory_stays_flat(model: Path, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "rows.txt", 20_000), tmp_path / "out.jsonl"
    peaks = memory_by_rows(("embed", "-m", model, "-i", rows, "-o", output), output, [2_000])
    assert peaks[-1] - peaks[2_000] < 8, peaks  # MiB; the answers alone take 13, the texts 2


def test_common_options_come_from_the_environment(model: Path) -> None:
    environment = {"TRIFORM_MODEL": str(model), "TRIFORM_JSON": "1", "TRIFORM_LONG_INPUT": "truncate"}
    code, out, _ = triform_command("run", "embed", "x " * 200, **environment)
    assert code == 0
    assert np.shape(json.loads(out)) == (32,)
    code, _, err = triform_command("run", "embed", "x", TRIFORM_TOKEN_BUDGET="0", **environment)
    assert code == 3
    assert "token_budget=0" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("triform run text-cl", ["text-classification"]),
        ("triform run embed --engine ref", ["reference"]),
        ("triform run embed --dtype float", ["float32", "float16"]),
        ("triform describe FOLDER/mo", ["FOLDER/model"]),
        ("triform run embed --on-error s", ["stop", "skip"]),
    ],
)
def test_the_shell_completes(tmp_path: Path, words: str, expected: list[str]) -> None:
    for name in ("model", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").touch()
    words = words.replace("FOLDER", str(tmp_path))
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_TRIFORM_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['triform']; from triform.cli import main; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [text.replace("FOLDER", str(tmp_path)) for text in expected]


def test_progress_is_shown_on_a_terminal(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.txt", 600)
    ours, theirs = pty.openpty()
    with start("embed", "-m", model, "-i", rows, "-o", tmp_path / "out.jsonl", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the far end is closed
                break
        assert process.wait() == 0
    os.close(ours)
    assert b"600 rows" in shown
    assert b"100 %" in shown
