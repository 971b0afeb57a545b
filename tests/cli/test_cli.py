"""The command line as a person meets the program: a separate process, the output and the exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests import checkpoints


def triform_command(*arguments: str | Path, stdin: str | None = None, **environment: str) -> tuple[int, str, str]:
    """Run the command; return (exit code, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "triform", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,  # a busy machine takes long to import torch
        check=False,
        env=os.environ | {"COLUMNS": "160"} | environment,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_text_on_the_command_line(minilm: Path) -> None:
    code, out, err = triform_command("run", "embed", "a text", "another", "-m", minilm, "--json")
    assert (code, err) == (0, "")
    vectors = np.array([json.loads(line) for line in out.splitlines()])
    expected = triform.pipeline("sentence-embedding", model=minilm)(["a text", "another"])
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-7)
    code, out, _ = triform_command("run", "sentence-embedding", "a text", TRIFORM_MODEL=str(minilm))
    np.testing.assert_allclose(np.array(out.split(), float), vectors[0], rtol=0, atol=1e-6)


def test_a_matrix_is_a_line_for_each_row(minilm: Path) -> None:
    code, out, _ = triform_command("run", "feature-extraction", "a text", "-m", minilm)
    assert code == 0
    expected = triform.pipeline("feature-extraction", model=minilm)("a text")
    np.testing.assert_allclose(np.array([row.split() for row in out.splitlines()], float), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_objects_are_json(minilm: Path, tmp_path: Path) -> None:
    given = {"source_sentence": "A cat sat.", "sentences": ["Ein Kätzchen saß.", "It rains."]}
    expected = triform.pipeline("sentence-similarity", model=minilm)(given)
    task = ("run", "sentence-similarity", "-m", minilm)
    (tmp_path / "in.jsonl").write_text(json.dumps(given))
    for arguments in (("--json", json.dumps(given)), ("--json", "-i", tmp_path / "in.jsonl")):
        code, out, _ = triform_command(*task, *arguments)
        assert code == 0
        np.testing.assert_allclose(json.loads(out), expected, rtol=0, atol=1e-6)
    code, out, err = triform_command(*task, "A cat sat.")
    assert (code, out) == (3, "")
    assert "text 1: not JSON" in err
    assert 'sentence-similarity reads objects such as {"source_sentence": "A cat sat."' in err


@pytest.mark.slow
def test_labels_are_options(minilm: Path, tmp_path: Path) -> None:
    labels = {0: "entailment", 1: "contradiction"}
    config = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, **config)
    expected = triform.pipeline("zero-shot-classification", model=folder)("a text", candidate_labels=["x", "y, z"])
    task = ("run", "zero-shot-classification", "a text", "-m", folder)
    code, out, _ = triform_command(*task, "--candidate-labels", "x", "--candidate-labels", "y, z")
    assert code == 0
    scores = ", ".join(f"{score:.4f}" for score in expected["scores"])
    assert out == f"a text  {', '.join(expected['labels'])}  {scores}\n"
    code, _, err = triform_command(*task)
    assert code == 3
    assert "candidate_labels=None: expected one or more labels" in err


@pytest.mark.slow
def test_lines_of_a_file_and_of_standard_input(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "model", num_labels=3)
    lines = ["first\r", "", "dritte Zeile — 猫"]
    (tmp_path / "in.txt").write_bytes("\n".join(lines).encode())
    classify = triform.pipeline("text-classification", model=folder)
    expected = classify([line.rstrip("\r") for line in lines])
    output = tmp_path / "out.jsonl"
    task = ("run", "text-classification", "-m", folder)
    assert triform_command(*task, "--input", tmp_path / "in.txt", "--output", output, "--json") == (0, "", "")
    assert [json.loads(line) for line in output.read_text().splitlines()] == expected
    code, out, _ = triform_command(*task, "--input", "-", "--json", stdin="\n".join(lines))
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == expected
    pairs: list[Any] = ["plain", {"text": "one", "text_pair": "two"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    code, out, _ = triform_command(*task, "-i", tmp_path / "in.jsonl", "--top-k", "2", "--json")
    assert [json.loads(line) for line in out.splitlines()] == classify(pairs, top_k=2)
    code, out, _ = triform_command(*task, "plain")
    label, score = out.split()
    assert label == expected[0]["label"] or label.startswith("LABEL_")
    assert 0 < float(score) <= 1


@pytest.mark.slow
def test_options_of_a_task(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path)
    generate = triform.pipeline("text-generation", model=folder)
    task = ("run", "text-generation", "Once upon", "-m", folder, "--max-new-tokens", "4")
    expected = generate("Once upon", max_new_tokens=4)[0]["generated_text"]
    assert triform_command(*task)[1] == expected + "\n"
    expected = generate("Once upon", max_new_tokens=4, return_full_text=False)[0]["generated_text"]
    assert triform_command(*task, "--no-return-full-text")[1] == expected + "\n"
    expected = generate("Once upon", max_new_tokens=4, do_sample=True, top_p=0.9, seed=5)[0]["generated_text"]
    assert triform_command(*task, "--do-sample", "--top-p", "0.9", "--seed", "5")[1] == expected + "\n"
    for argument in ("--help", "-h"):
        code, out, _ = triform_command("run", "text-generation", argument)
        assert code == 0
        assert "--max-new-tokens" in out
        for own in ("--do-sample", "--no-do-sample", "--top-p", "--num-beams", "--seed", "--stop"):
            assert own in out
        assert "--targets" not in out
        assert "Example: triform run text-generation" in out


@pytest.mark.slow
def test_help_lists_what_the_task_takes() -> None:
    _, out, _ = triform_command("run", "ner", "--help")
    assert "<window|error>" in out
    _, out, _ = triform_command("run", "summarization", "--help")
    assert "<error|truncate>" in out
    assert "<error|stop|slide>" in out
    _, out, _ = triform_command("run", "question-answering", "--help")
    assert "--handle-impossible-answer" in out
    assert "--no-handle" not in out
    assert "--no-align-to-words" in out
    _, out, _ = triform_command("convert", "--help")
    assert "pip install 'triform[torch]'" in out


def test_tokenize(minilm: Path) -> None:
    code, out, _ = triform_command("tokenize", minilm, "A cät", "--pair", "sat", "--json")
    assert code == 0
    assert [list(row.values()) for row in json.loads(out)] == [
        ["[CLS]", 101, 0, 1, None],
        ["a", 1037, 0, 1, [0, 1]],
        ["cat", 4937, 0, 1, [2, 5]],
        ["[SEP]", 102, 0, 1, None],
        ["sat", 2938, 1, 1, [0, 3]],
        ["[SEP]", 102, 1, 1, None],
    ]
    code, out, _ = triform_command("tokenize", minilm, "A cät")
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in out.splitlines() if "│" in line]
    assert rows[0] == ["[CLS]", "101", "0", "1"]
    assert rows[2] == ["cat", "4937", "0", "1", "2–5"]


def test_describe(minilm: Path, tmp_path: Path) -> None:
    code, out, _ = triform_command("describe", minilm, "--json")
    assert code == 0
    described = json.loads(out)
    assert described["num_parameters"] == triform.load(minilm).num_parameters
    assert described["spec"]["form"]["stack"]["blocks"][5][0]["core"]["heads"]["num_attention_heads"] == 12
    assert {"name", "shape", "dtype", "tensor", "file"} == set(described["parameters"][0])
    assert {"pooler.dense.weight", "pooler.dense.bias"} <= set(described["unused"])
    files = {own["file"]: own for own in described["files"]}
    assert {own["use"] for own in files.values()} >= {"settings", "weights", "tokenizer", "sentence encoder", "left"}
    assert (files["tokenizer.json"]["use"], files["vocab.txt"]["use"]) == ("tokenizer", "left")
    assert files["model.safetensors"]["use"] == "weights"
    keys = files["config.json"]["keys"]
    assert {"hidden_size", "num_attention_heads"} <= set(keys["followed"])
    assert "position_embedding_type" in keys["checked"]
    assert "transformers_version" in keys["harmless"]
    assert set(json.loads((minilm / "config.json").read_text())) == {key for own in keys.values() for key in own}
    code, out, _ = triform_command("describe", checkpoints.t5(tmp_path))
    assert code == 0
    for text in ("EncoderDecoder", "CrossAttention", "blocks 0–1", "RelativeBias", "shared.weight", "parameters"):
        assert text in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "embed", "x", "-m", "/no/such"], 4, "error: Folder /no/such does not exist"),
        (["run", "fill-mask", "x", "-m", "MINILM"], 4, "cannot do fill-mask"),
        (
            ["run", "embed", "x " * 300, "-m", "MINILM"],
            3,
            "text 1: the text has 302 tokens, more than the 256 that fit",
        ),
        (["run", "embed", "x", "-m", "MINILM", "--engine", "abacus"], 5, "engine='abacus' is not known"),
        (["run", "embed", "x", "-m", "MINILM", "--dtype", "int3"], 5, "dtype='int3'"),
        (["run", "embed", "-i", "/no/such.txt", "-m", "MINILM"], 3, "/no/such.txt cannot be opened: No such file"),
        (
            ["run", "embed", "x", "-o", "/no/such/file", "-m", "MINILM"],
            3,
            "/no/such/file cannot be opened: No such file",
        ),
        (["run", "embed", "-i", "/dev/null", "-m", "MINILM"], 3, "/dev/null is empty"),
        (["run", "embed", "x", "-m", "MINILM", "--token-budget", "0"], 3, "at least 1"),
        (["run", "embed", "-m", "MINILM"], 2, "give either texts or --input FILE"),
        (["run", "embed", "x"], 2, "Missing option '--model'"),
        (["run", "embed", "x", "-m", "MINILM", "--long-input", "window"], 2, "not one of 'error', 'truncate'"),
        (["run", "no-such-task", "x"], 2, "No such command 'no-such-task'"),
        (["describe", "/no/such"], 4, "Folder /no/such does not exist"),
        (["tokenize", "/no/such", "x"], 4, "Folder /no/such does not exist"),
    ],
)
def test_failures_are_one_message_and_an_exit_code(minilm: Path, arguments: list[str], code: int, message: str) -> None:
    arguments = [str(minilm) if argument == "MINILM" else argument for argument in arguments]
    actual, out, err = triform_command(*arguments)
    assert (actual, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback() -> None:
    code, _, err = triform_command("run", "embed", "x", "-m", "/no/such", "--debug")
    assert code != 0
    assert "Traceback" in err
    assert "ModelNotFoundError" in err


def test_cut_text_is_said(minilm: Path) -> None:
    code, out, err = triform_command("run", "embed", "x " * 300, "-m", minilm, "--long-input", "truncate")
    assert code == 0
    assert len(out.split()) == 384
    assert err.startswith("warning: 1 of 1 texts were longer than 256 tokens")


def test_a_reader_that_has_had_enough(minilm: Path) -> None:
    """The reader closes the pipe early, as in `triform run … | head -1`."""
    command = [sys.executable, "-m", "triform", "run", "embed", "-m", str(minilm), "-i", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"a text\n" * 2000)
        process.stdin.close()
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) != 0
        assert b"Traceback" not in process.stderr.read()


def test_a_file_that_is_not_text(minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"fine\n" + b"\xff\xfe broken\n")
    code, _, err = triform_command("run", "embed", "-m", minilm, "-i", tmp_path / "in.txt")
    assert code == 3
    assert "in.txt, line 2: not UTF-8" in err


def test_ctrl_c_ends_it_at_once(minilm: Path) -> None:
    command = [sys.executable, "-m", "triform", "run", "embed", "-m", str(minilm), "-i", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"a text\n" * 256)
        process.stdin.flush()
        process.stdout.readline()  # the run has begun
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()


def test_version() -> None:
    assert triform_command("--version") == (0, f"triform {triform.__version__}\n", "")


@pytest.mark.slow
def test_json_on_the_command_line_is_read_where_it_is_said_to_be(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path, chat_template="{{ messages[0].content }}")
    chat = '[{"role": "user", "content": "A cat"}]'
    arguments = ["run", "text-generation", chat, "--model", str(folder), "--max-new-tokens", "3", "--json"]
    _, out, err = triform_command(*arguments, "--input-format", "jsonl")
    assert json.loads(out)[0]["generated_text"][0] == {"role": "user", "content": "A cat"}
    assert "warning" not in err
    _, out, err = triform_command(*arguments)
    assert json.loads(out)[0]["generated_text"].startswith(chat)
    assert "warning: text 1 is read letter by letter. Is it JSON? Add --input-format jsonl." in err
    code, _, err = triform_command(*arguments, "--input-format", "csv")
    assert code == 2
    assert "may be jsonl" in err


def test_options_that_no_row_could_be_answered_with_are_said_at_once(tmp_path: Path, minilm: Path) -> None:
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, id2label=labels)
    code, _, err = triform_command("run", "zero-shot-classification", "A cat", "--model", folder, "--on-error", "skip")
    assert code == 3
    assert err.startswith("error: candidate_labels=None: expected one or more labels.")
