"""`triform.train` and the names of `triform.training`, as a caller in Python meets them."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import triform
from tests.checkpoints import bert
from triform import training
from triform.errors import InputError
from triform.training import OBJECTIVES, TrainingObserver, TrainingResult, find_objective
from triform.training.log import Record
from triform.training.processes import join_processes
from triform.training.run import prepare_run
from triform.training.settings import merge_tables

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


class Recorder(TrainingObserver):
    def __init__(self) -> None:
        self.num_steps = 0
        self.records: list[Record] = []

    def begin(self, run: Any) -> None:
        self.num_steps = run.training.num_steps

    def record(self, record: Record) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def values(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a recipe of plain values, with paths as Python objects."""
    folder = tmp_path_factory.mktemp("train")
    rows = [{"text": f"{text} {number}", "label": text} for text in ("good", "bad") for number in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": bert("BertModel", minilm, folder / "model"),
        "objective": {"name": "sequence-classification"},
        "data": {"folder": folder, "train": "rows.jsonl", "validation": ("rows.jsonl",), "test": "rows.jsonl"},
        "batches": {"batch_size": 6},
        "optimizer": {"learning_rate": 1e-2},
        "loop": {"epochs": 5, "metric": "accuracy"},
    }


@pytest.mark.slow
def test_values_alone(values: dict[str, Any], tmp_path: Path) -> None:
    observer = Recorder()
    result = triform.train(**values, output=tmp_path / "out", observer=observer)
    evaluations = [record["scores"] for record in observer.records if "scores" in record]
    best = max(scores["accuracy"] for scores in evaluations)
    assert (result.output, result.num_steps, observer.num_steps) == (tmp_path / "out", 10, 10)
    assert result.scores == next(scores for scores in evaluations if scores["accuracy"] == best)
    assert result.test_scores is not None
    assert result.test_scores["accuracy"] == best
    assert not result.was_complete
    assert observer.records[-1] == {"step": 10, "ended": "steps"}
    again = triform.train(**values, output=tmp_path / "out", resume=True)
    assert again == TrainingResult(
        output=tmp_path / "out", num_steps=10, scores=result.scores, test_scores=None, was_complete=True
    )
    with pytest.raises(InputError, match="holds a model or a run already"):
        triform.train(**values, output=tmp_path / "out")
    assert triform.train(**values, output=tmp_path / "out", overwrite=True) == result


def test_values_over_a_recipe(values: dict[str, Any], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'output = "unused"\nmodel = "{values["model"]}"\nobjective = {{name = "sequence-classification"}}\n'
        'data = {train = "rows.jsonl", columns = {text = "said"}}\nloop = {epochs = 9, seed = 3, steps = 8}\n'
    )
    (tmp_path / "rows.jsonl").write_text('{"said": "a", "label": "x"}\n{"said": "b", "label": "y"}\n')
    result = triform.train(recipe, output=str(tmp_path / "out"), loop={"steps": 2, "epochs": None})
    assert (result.num_steps, result.scores, result.test_scores) == (2, None, None)
    read = training.read_recipe(recipe, {"loop": {"steps": 2}, "data": {"columns": {"label": "label"}}})
    assert (read.loop.epochs, read.loop.seed, read.loop.steps) == (9, 3, 2)
    assert read.data.columns == {"text": "said", "label": "label"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "recipe: 'epochs' is not known. Known are objective, data"),
        ({"loop": {"epoch": 3}}, "recipe: loop: 'epoch' is not known. Known are epochs"),
        ({"objective": {"name": "guessing"}}, "objective: name = 'guessing': expected one of masked-lm"),
        ({"objective": {"mask_rate": 0.5}}, "objective: 'mask_rate' is not known. Known are max_length"),
        ({"objective": {"labels": "good"}}, "objective: labels = 'good': expected a list"),
        ({"objective": {"problem": "guess"}}, "objective: problem = 'guess': expected one of single_label"),
        ({"loop": {"metric": "bleu"}}, "metric = 'bleu': sequence-classification has loss, accuracy"),
        ({"resume": True, "overwrite": True}, "resume and overwrite are both set"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    merged = merge_tables(values, changes)
    with pytest.raises(InputError) as raised:
        triform.train(output=tmp_path, **merged)
    assert message in str(raised.value)


def digest(values: dict[str, Any], output: Path) -> str:
    """Return the digest that a resumed run must have."""
    with join_processes() as processes:
        return prepare_run(
            training.read_recipe(None, {**values, "output": output}), Path(), processes
        ).training.state.run


def test_a_run_resumes_only_with_the_inputs_it_began_with(values: dict[str, Any], minilm: Path, tmp_path: Path) -> None:
    model = bert("BertModel", minilm, tmp_path / "model")
    for name in ("train", "validation", "test"):
        shutil.copy(values["data"]["folder"] / "rows.jsonl", tmp_path / f"{name}.jsonl")
    data = {"folder": tmp_path, **{name: f"{name}.jsonl" for name in ("train", "validation", "test")}}
    recipe = {**values, "model": model, "data": data}
    known = {digest(recipe, tmp_path / "out")}
    for file in ("train.jsonl", "validation.jsonl"):
        lines = (tmp_path / file).read_text().splitlines()
        (tmp_path / file).write_text("\n".join(reversed(lines)) + "\n")
        os.utime(tmp_path / file, (len(known), len(known)))
        assert digest(recipe, tmp_path / "out") not in known, file
        known.add(digest(recipe, tmp_path / "out"))
    files = sorted(path.name for path in model.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files)
    for file in files:
        if file.endswith(".json"):
            (model / file).write_text((model / file).read_text() + "\n")
        os.utime(model / file, (1, 1))
        assert digest(recipe, tmp_path / "out") not in known, file
        known.add(digest(recipe, tmp_path / "out"))
    last = digest(recipe, tmp_path / "out")
    (model / "README.md").write_text("changed")
    (tmp_path / "test.jsonl").write_text((tmp_path / "test.jsonl").read_text() * 2)
    assert digest(recipe, tmp_path / "out") == last


def test_the_digest_of_a_new_model_holds_its_tokenizer(values: dict[str, Any], minilm: Path, tmp_path: Path) -> None:
    model = bert("BertModel", minilm, tmp_path / "model")
    output = tmp_path / "out"
    output.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / file, output / file)
    recipe = {**values, "model": None, "config": json.loads((model / "config.json").read_text())}
    first = digest(recipe, output)
    (output / "config.json").write_text((output / "config.json").read_text() + "\n")  # as saving the model does
    assert digest(recipe, output) == first
    (output / "tokenizer.json").write_text((output / "tokenizer.json").read_text() + "\n")
    assert digest(recipe, output) != first


@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize("objective", ["sequence-classification", "token-classification"])
def test_an_unknown_label_is_named_before_the_first_step(
    values: dict[str, Any], name: str, objective: str, tmp_path: Path
) -> None:
    row = {"text": "a b", "label": "good", "tokens": ["a", "b"], "tags": ["O", "B"]}
    bad = {**row, "label": "awful", "tags": ["O", "X"]}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    (tmp_path / "other.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(bad) + "\n")
    data = {"folder": tmp_path, "train": "rows.jsonl", name: "other.jsonl"}
    observer = Recorder()
    changed = {**values, "objective": {"name": objective}, "data": data, "loop": {"epochs": 1}}
    with pytest.raises(InputError, match=r"other\.jsonl, line 2: (label 'awful'|tag 'X') is none of the model's"):
        triform.train(**changed, output=tmp_path / "out", observer=observer)
    assert not observer.records


def test_validation_files_without_rows_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "none.csv").write_text("text,label\n")
    data = {"folder": tmp_path, "train": "rows.csv", "validation": "none.csv"}
    with pytest.raises(InputError, match="nothing to validate on: the files hold no row"):
        triform.train(**{**values, "data": data}, output=tmp_path / "out")


def test_without_torch() -> None:
    script = """
import sys
class NoTorch:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, NoTorch())
import triform
from triform.training import evaluate
try:
    triform.train("recipe.toml")
except triform.errors.EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Training needs torch: pip install 'triform[train]'\n"


def test_public_names() -> None:
    assert set(training.__all__) == set(training.MODULES)
    assert all(hasattr(training, name) for name in training.__all__)


def test_the_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    found: dict[str, Any] = {}
    exec(example, found)
    assert found["result"].scores["accuracy"] == 1


def test_the_docs_list_every_objective_and_setting() -> None:
    lines = []
    for name in OBJECTIVES:
        kind = find_objective(name)
        assert kind.name == name
        lines.append(f"| `{name}` | {kind.rows} | {', '.join(kind.score_names()[1:]) or 'none'} |")
    for name in OBJECTIVES:
        for known in fields(find_objective(name).settings_type):
            default = "" if known.default is None else f"`{json.dumps(known.default)}`"
            lines.append(f"| `{name}` | `{known.name}` | {default} | {known.metadata['help']} |")
    assert [line for line in DOCS.splitlines() if line.startswith("| `") and line.split("`")[1] in OBJECTIVES] == lines
