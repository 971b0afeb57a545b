"""Runs from a file to a file: the inputs of every format, bad rows, and the rest of an interrupted run."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import transformers

import triform
from tests import checkpoints
from tests.cli.interruptions import write_rows
from triform.bulk import Summary, answer_file
from triform.errors import InputError
from triform.tasks import Task, runner


@pytest.fixture(scope="module")
def embed(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Task[Any, Any]:
    folder = checkpoints.bert("BertModel", minilm, tmp_path_factory.mktemp("model"))
    return triform.pipeline("embed", model=folder)


@pytest.fixture(scope="module")
def classify(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Task[Any, Any]:
    folder = tmp_path_factory.mktemp("classifier")
    checkpoints.bert("BertForSequenceClassification", minilm, folder, num_labels=2)
    return triform.pipeline("text-classification", model=folder)


def answers(task: Task[Any, Any], input: Path, **arguments: Any) -> list[Any]:
    """Answer a file from the beginning, overwriting an earlier output; return the answers."""
    output = input.parent / "answers.jsonl"
    answer_file(task, input, output, if_exists="overwrite", **arguments)
    return lines_of(output)


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_rows_of_a_file_are_answered_in_order(embed: Task[Any, Any], tmp_path: Path) -> None:
    texts = ["one", "", "three and more words than the others", "four"]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    seen: list[Summary] = []
    assert answer_file(embed, tmp_path / "in.txt", tmp_path / "out.jsonl", progress=seen.append) == Summary(4, 0)
    assert seen == [Summary(0, 0), Summary(4, 0)]
    np.testing.assert_array_equal(np.array(lines_of(tmp_path / "out.jsonl"), np.float32), embed(texts))
    answer_file(embed, str(tmp_path / "in.txt"), str(tmp_path / "out.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), embed(texts))
    answer_file(embed, tmp_path / "in.txt", tmp_path / "out.txt")
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"in.txt", "out.jsonl", "out.npy", "out.txt"}


def test_bad_rows_are_skipped_in_their_places(embed: Task[Any, Any], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'"one"\n{broken\n\n7\n"\xff"\n' + json.dumps("x " * 200).encode() + b'\n"six"')
    with pytest.warns(UserWarning, match="1 blank line held no row"):
        one, *bad, six = answers(embed, rows, on_error="skip")
    expected = embed(["one", "six"])
    np.testing.assert_array_equal(np.array([one, six], np.float32), expected)
    messages = ["line 2: not JSON", "line 4: sentence-embedding: expected a text, got 7", "line 5: not UTF-8"]
    for answer, message in zip(bad, [*messages, "line 6: the text has 202 tokens"], strict=True):
        assert message in answer["error"]
    with pytest.warns(UserWarning, match="1 blank line held no row"):
        assert answer_file(embed, rows, tmp_path / "out.npy", on_error="skip") == Summary(6, 4)
    array = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(array[[0, 5]], expected)
    assert np.isnan(array[1:5]).all()


def test_a_row_that_fails_in_the_model_is_found(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path / "model")
    texts = ["Once upon", "a " * 90, "a time"]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=60)
    first, second, third = answers(generate, tmp_path / "in.txt", on_error="skip")
    assert [first, third] == [generate(texts[0]), generate(texts[2])]
    assert "in.txt, line 2: A prompt of" in second["error"]
    with pytest.raises(InputError, match=r"in.txt, line 2: A prompt of"):
        answers(generate, tmp_path / "in.txt")
    assert lines_of(tmp_path / "answers.jsonl.part") == [first]


def test_tables(classify: Task[Any, Any], tmp_path: Path) -> None:
    pairs = [{"text": 'one, "two"\nthree', "text_pair": "four"}, {"text": "", "text_pair": "5"}]
    table = '\ufeffid,text,text_pair\r\n1,"one, ""two""\nthree",four\r\n2,,5\r\n'
    (tmp_path / "in.csv").write_bytes(table.encode())
    (tmp_path / "table").write_bytes(table.encode())
    with gzip.open(tmp_path / "in.tsv.gz", "wt") as file:
        file.write('a text\tother\n"one, two\tfour\n\t5\n')
    expected = classify(pairs)
    assert answers(classify, tmp_path / "in.csv") == expected
    assert answers(classify, tmp_path / "table", input_format="csv") == expected
    lines = classify([{"text": '"one, two', "text_pair": "four"}, {"text": "", "text_pair": "5"}])
    assert answers(classify, tmp_path / "in.tsv.gz", columns={"text": "a text", "text_pair": "other"}) == lines
    single = classify([pair["text_pair"] for pair in pairs])
    assert answers(classify, tmp_path / "in.csv", columns={"text": "text_pair"}) == single
    (tmp_path / "in.jsonl").write_text('{"id": 1, "said": "four"}\n{"said": "5", "id": 2}\n')
    assert answers(classify, tmp_path / "in.jsonl", columns={"text": "said"}) == single


def test_objects_in_a_table(embed: Task[Any, Any], tmp_path: Path) -> None:
    compare = triform.pipeline("sentence-similarity", model=embed.model.checkpoint.folder)
    (tmp_path / "in.csv").write_text('q,sentences\na cat,"[""a dog"", ""rain""]"\na cat,rain\n')
    expected = compare({"source_sentence": "a cat", "sentences": ["a dog", "rain"]})
    message = r'in.csv, line 3: sentences: expected a list such as \["one", "two"\]'
    with pytest.raises(InputError, match=message):
        answers(compare, tmp_path / "in.csv", columns={"source_sentence": "q"})
    np.testing.assert_allclose(lines_of(tmp_path / "answers.jsonl.part"), [expected], rtol=0, atol=1e-6)
    with pytest.raises(
        InputError, match=r"the columns are q, sentences; there is no source_sentence. Name the columns"
    ):
        answers(compare, tmp_path / "in.csv")
    with pytest.raises(InputError, match="column 'q': sentence-similarity has no field text"):
        answers(compare, tmp_path / "in.csv", columns={"text": "q"})


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("in.csv", b"a,b\n1,2\n", {}, "line 1: the columns are a, b. Name the column to read."),
        ("in.csv", b"a,b\n1,2\n", {"columns": {"text": "c"}}, "the columns are a, b; there is no c"),
        ("in.csv", b"text,text\n1,2\n", {}, "the header names 'text' more than once"),
        ("in.csv", b"text\n1\n2,3\n", {}, "in.csv, line 3: 2 cells, where the header has 1"),
        ("in.csv", b'text\n1\n"2\n3\n', {}, "in.csv, line 3: not csv: unexpected end of data"),
        ("in.csv", b"text\n1\n\xff\n", {"on_error": "skip"}, "in.csv, line 3: not UTF-8"),
        ("in.json", b"[1]", {}, "rows are read from .txt, .csv, .tsv and .jsonl"),
        ("in.txt.gz", b"no gzip", {}, "in.txt.gz cannot be read beyond line 0: Not a gzipped file"),
        ("in.txt.gz", gzip.compress(b"one\n" * 9999, mtime=0)[:-12], {}, "cannot be read beyond line"),
        ("in.jsonl", b'{"a": 1}', {"columns": {"text": "text"}}, "in.jsonl, line 1: there is no text among a"),
        ("in.jsonl", b"1", {"columns": {"text": "text"}}, "line 1: a column is a key of an object, got 1"),
        ("in.txt", b"one", {"columns": {"text": "text"}}, "in.txt is read as a text on each line"),
        ("in.txt", b"", {}, "in.txt is empty"),
        ("in.jsonl", b"9" * 5000, {}, "in.jsonl, line 1: not JSON: Exceeds the limit"),
        ("in.txt", b"one", {"input_format": "conll"}, "input_format='conll': expected one of txt, csv, tsv, jsonl."),
        ("in.txt", b"one", {"on_error": "pass"}, "on_error='pass': expected one of stop, skip."),
        ("in.txt", b"one", {"if_exists": "append"}, "if_exists='append': expected one of fail, resume, overwrite."),
    ],
)
def test_inputs_that_cannot_be_read(
    classify: Task[Any, Any], tmp_path: Path, name: str, content: bytes, arguments: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        answer_file(classify, tmp_path / name, tmp_path / "out.jsonl", **arguments)
    assert message in str(raised.value)


def test_an_array_is_for_vectors(classify: Task[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    with pytest.raises(InputError, match=r"out.npy: text-classification makes no array. Choose a .jsonl file."):
        answer_file(classify, tmp_path / "in.txt", tmp_path / "out.npy")


def test_an_existing_output_is_kept_resumed_or_overwritten(embed: Task[Any, Any], tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.txt", tmp_path / "out.jsonl"
    rows.write_text("one\ntwo\nthree\n" + "x " * 200 + "\nfive\n")
    with pytest.raises(InputError, match=r"rows.txt, line 4: the text has 202 tokens, more than the 128") as raised:
        answer_file(embed, rows, output)
    part = tmp_path / "out.jsonl.part"
    assert raised.value.__notes__ == [
        'Mend the row, or skip such rows: on_error="skip".',
        f"3 rows are answered, in {part}. Resume the run to go on.",
    ]
    assert len(lines_of(part)) == 3
    with pytest.raises(InputError, match=r"an unfinished run left out.jsonl.part beside it"):
        answer_file(embed, rows, output)
    with pytest.raises(InputError, match="dtype was None, is 'float16'. Resume with the same settings"):
        answer_file(embed, rows, output, if_exists="resume", settings={"dtype": "float16"})
    texts = ["one", "two", "three", "four", "five"]
    rows.write_text("\n".join(texts))  # the row is mended
    assert answer_file(embed, rows, output, if_exists="resume") == Summary(5, 0)
    np.testing.assert_array_equal(np.array(lines_of(output), np.float32), embed(texts))
    with pytest.raises(InputError, match="is there already. Name another output, or overwrite it."):
        answer_file(embed, rows, output)
    assert answer_file(embed, rows, output, if_exists="resume") is None
    rows.write_text("another\n")
    assert answer_file(embed, rows, output, if_exists="overwrite") == Summary(1, 0)
    assert len(lines_of(output)) == 1


class Interruption:
    """A progress hook ends a run after some batches, as Ctrl-C does."""

    def __init__(self, batches: int) -> None:
        self.remaining = batches

    def __call__(self, summary: Summary) -> None:
        self.remaining -= 1
        if self.remaining < 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("torn", [b"", b"[0.25, 1"])
def test_a_resumed_run_writes_the_same_bytes(embed: Task[Any, Any], tmp_path: Path, torn: bytes) -> None:
    task = triform.pipeline("embed", model=embed.model.checkpoint.folder, token_budget=700)
    rows = write_rows(tmp_path / "rows.txt", 600)  # three chunks
    whole, pieces, part = (tmp_path / name for name in ("whole.npy", "pieces.npy", "pieces.npy.part"))
    seen: list[Summary] = []
    answer_file(task, rows, whole, progress=seen.append)
    assert len(seen) > 10
    for batches in range(1, len(seen)):
        with pytest.raises(KeyboardInterrupt) as raised:
            answer_file(task, rows, pieces, if_exists="overwrite", progress=Interruption(batches))
        assert raised.value.__notes__ == [
            f"{seen[batches].rows:,} rows are answered, in {part}. Resume the run to go on."
        ]
        with part.open("ab") as file:
            file.write(torn)
        counts: list[Summary] = []
        assert answer_file(task, rows, pieces, if_exists="resume", progress=counts.append) == Summary(600, 0)
        assert counts == seen[batches:]
        assert pieces.read_bytes() == whole.read_bytes()


def test_chunks_of_long_rows_are_cut_at_the_same_rows_when_resumed(
    embed: Task[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CHUNK_CHARACTERS", 200)
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"{'word ' * (number * 7 % 23)}{number}\n" for number in range(60)))
    whole, pieces = tmp_path / "whole.npy", tmp_path / "pieces.npy"
    seen: list[Summary] = []
    answer_file(embed, rows, whole, progress=seen.append)
    assert len(seen) > 10
    for batches in range(1, len(seen)):
        with pytest.raises(KeyboardInterrupt):
            answer_file(embed, rows, pieces, if_exists="overwrite", progress=Interruption(batches))
        counts: list[Summary] = []
        answer_file(embed, rows, pieces, if_exists="resume", progress=counts.append)
        assert counts == seen[batches:]
        assert pieces.read_bytes() == whole.read_bytes()


HUGE = """
import resource, sys, triform
from triform.bulk import answer_file
task = triform.pipeline("embed", sys.argv[1], long_input="truncate")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
summary = answer_file(task, sys.argv[2], sys.argv[3], on_error="skip")
print(summary.rows, summary.failed, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_small_file_of_huge_lines_takes_bounded_memory(embed: Task[Any, Any], tmp_path: Path) -> None:
    with gzip.open(tmp_path / "huge.txt.gz", "wb", compresslevel=1) as file:
        for size in (2**24 - 1, 2**24 - 1, 10, 2**20, 2**20, 2**20, 2**20, 10):
            file.write(b"a " * (size // 2) + b"\n")
    command = [sys.executable, "-c", HUGE, str(embed.model.checkpoint.folder), str(tmp_path / "huge.txt.gz")]
    done = subprocess.run([*command, str(tmp_path / "out.jsonl")], capture_output=True, text=True, check=True)
    rows, failed, megabytes = map(int, done.stdout.split())
    assert (rows, failed) == (8, 2)
    assert megabytes < 1200
    assert "more than the 4,194,304 that are read at once" in (tmp_path / "out.jsonl").read_text()


def test_changed_rows_and_options_are_refused(embed: Task[Any, Any], tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "rows.txt", 600), tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_file(embed, rows, output, progress=Interruption(5))
    unchanged = (tmp_path / "out.jsonl.part").read_bytes()
    text = rows.read_text()
    rows.write_text(text.replace("\n100 ", "\nhundred ", 1))
    with pytest.raises(InputError, match="rows of the input are not the rows that it answers"):
        answer_file(embed, rows, output, if_exists="resume")
    rows.write_text(text)
    other = triform.pipeline("embed", model=embed.model.checkpoint.folder, token_budget=700)
    with pytest.raises(InputError, match="begun with other settings: token_budget was None, is 700"):
        answer_file(other, rows, output, if_exists="resume")
    assert (tmp_path / "out.jsonl.part").read_bytes() == unchanged
    rows.write_text(text.replace("\n599 ", "\nlast ", 1))  # not answered yet
    assert answer_file(embed, rows, output, if_exists="resume") == Summary(600, 0)


def test_another_adapter_is_refused(embed: Task[Any, Any], tmp_path: Path) -> None:
    base, adapter = embed.model.checkpoint.folder, tmp_path / "adapter"
    model = transformers.AutoModel.from_pretrained(base)
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"], r=2)).save_pretrained(str(adapter))
    rows, output = write_rows(tmp_path / "rows.txt", 600), tmp_path / "out.jsonl"
    adapted = triform.pipeline("embed", model=base, adapter=adapter)
    with pytest.raises(KeyboardInterrupt):
        answer_file(adapted, rows, output, progress=Interruption(5))
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 64'))
    with pytest.raises(InputError, match="begun with other settings: files of the model was"):
        answer_file(adapted, rows, output, if_exists="resume")


def test_an_interruption_before_the_first_answer_leaves_no_file(embed: Task[Any, Any], tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.txt", 10)
    with pytest.raises(KeyboardInterrupt):
        answer_file(embed, rows, tmp_path / "out.jsonl", progress=Interruption(0))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]
