"""`triform train` and `triform evaluate`, from a recipe to a score."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from tests.checkpoints import bert
from tests.cli.test_cli import triform_command
from triform.errors import InputError
from triform.training.log import read_log
from triform.training.processes import Processes
from triform.training.recipe import read_recipe
from triform.training.run import prepare_run
from triform.training.settings import parse_changes

RECIPE = """
output = "unused"
objective = {name = "sequence-classification"}
data = {train = "train.csv", validation = "train.csv", test = "train.csv", columns = {label = "mood"}}
batches = {batch_size = 6, token_budget = 24}
optimizer = {learning_rate = 1e-2}
loop = {epochs = 12, metric = "accuracy", checkpoint_every = 5}
"""
ROWS = [("what a fine day", "good"), ("a fine cat", "good"), ("so bad", "bad"), ("what a bad, bad mat", "bad")] * 3


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    bert("BertModel", minilm, folder / "model")
    (folder / "recipe.toml").write_text(RECIPE)
    lines = [f'"{text}",{mood}\n' for text, mood in ROWS]
    (folder / "train.csv").write_text("text,mood\n" + "".join(lines))
    return folder


def train(folder: Path, output: Path, *more: str | Path) -> tuple[int, str, str]:
    return triform_command("train", folder / "recipe.toml", "-m", folder / "model", "-o", output, *more)


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    code, _, err = train(folder, output)
    assert code == 0, err
    assert "24 steps, 0 of them done; memory: " in err
    assert "new: classification_head.weight" in err
    assert "step 24: loss" in err
    assert "test: accuracy 1.0000, macro_f1 1.0000, matthews 1.0000" in err
    return output


@pytest.mark.slow
def test_what_a_run_leaves(trained: Path) -> None:
    assert {path.name for path in (trained / "training").iterdir()} == {"log.jsonl", "curve.png"}
    records = read_log(trained / "training" / "log.jsonl")
    assert records[-1] == {"step": 24, "ended": "steps"}
    assert len([record for record in records if "loss" in record]) == 24
    assert (trained / "training" / "curve.png").read_bytes().startswith(b"\x89PNG")
    theirs = transformers.pipeline("text-classification", model=str(trained))
    assert [theirs(text)[0]["label"] for text, _ in ROWS] == [mood for _, mood in ROWS]


def test_evaluate_needs_no_torch(folder: Path, trained: Path) -> None:
    data = folder / "train.csv"
    script = f"""
import sys
class NoTorch:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
sys.argv = ["triform", "evaluate", "text-classification", "-m", {str(trained)!r}, "--data", {str(data)!r},
            "--column", "label=mood", "--json"]
from triform.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"accuracy": 1.0, "macro_f1": 1.0, "matthews": 1.0}


@pytest.mark.slow
def test_an_output_that_is_there_is_not_touched(folder: Path, trained: Path, tmp_path: Path) -> None:
    code, _, err = train(folder, trained)
    assert (code, "Go on with --resume, begin again with --overwrite" in err) == (3, True)
    code, _, err = train(folder, trained, "--resume")
    assert (code, "trained to its end" in err) == (0, True)


@pytest.mark.slow
def test_early_stop_resume_and_overwrite(folder: Path, tmp_path: Path) -> None:
    code, _, err = train(folder, tmp_path, "--set", "loop.patience=1", "--set", "optimizer.learning_rate=1e-9")
    assert code == 0, err
    assert read_log(tmp_path / "training" / "log.jsonl")[-1]["ended"] == "patience"
    code, _, err = train(folder, tmp_path, "--overwrite", "--set", "loop.steps=3", "--set", "data.test=none.csv")
    assert (code, "none.csv cannot be opened" in err) == (3, True)


@pytest.mark.slow
def test_two_processes_under_torchrun(folder: Path, tmp_path: Path) -> None:
    arguments = ["-m", "triform", "train", folder / "recipe.toml", "-m", folder / "model", "--set", "loop.steps=4"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command, output in (([sys.executable], alone), (launch, together)):
        done = subprocess.run(
            [*map(str, [*command, *arguments]), "-o", str(output)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    ours, theirs = (
        [record["loss"] for record in read_log(output / "training" / "log.jsonl") if "loss" in record]
        for output in (alone, together)
    )
    assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.name=guessing", "objective: name = 'guessing': expected one of masked-lm"),
        (
            "objective.mask_rate=0.5",
            "objective: 'mask_rate' is not known. Known are max_length, long_input, labels, problem",
        ),
        ("data.columns={label = 'stars'}", "train.csv, line 2: there is no stars among text, mood"),
        ("objective.labels=['good', 'awful']", "train.csv, line 4: label 'bad' is none of the model's: good, awful"),
        ("loop.metric=bleu", "metric = 'bleu': sequence-classification has loss, accuracy"),
        ("lora={targets = ['nothing']}", "targets: 'nothing' fits no linear of the model"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, tmp_path: Path, change: str, message: str) -> None:
    changes = [change, f"model={folder / 'model'}", f"output={tmp_path}"]
    with pytest.raises(InputError) as raised:
        prepare_run(read_recipe(folder / "recipe.toml", parse_changes(changes)), folder, Processes())
    assert message in str(raised.value)


def test_an_adapter(folder: Path, tmp_path: Path) -> None:
    changes = ["lora={rank = 4}", f"model={folder / 'model'}", f"output={tmp_path}", "optimizer.learning_rate=0.05"]
    run = prepare_run(read_recipe(folder / "recipe.toml", parse_changes(changes)), folder, Processes())
    assert [record for record in run.training.records() if "ended" in record]
    assert (tmp_path / "adapter_model.safetensors").is_file()
    scores = run.test_scores()
    assert scores is not None
    assert scores["accuracy"] == 1


def test_a_row_that_cannot_be_evaluated_is_named(folder: Path, trained: Path) -> None:
    arguments = ("evaluate", "text-classification", "-m", trained, "--data", folder / "train.csv")
    code, _, err = triform_command(*arguments)
    assert (code, "train.csv, line 2: there is no label among text, mood" in err) == (3, True)
    code, _, err = triform_command(*arguments, "--column", "label=mood", "--label", "good=fine")
    assert (code, "label 'fine' is none of the model's: bad, good" in err) == (3, True)
    code, _, err = triform_command("evaluate", "text-ranking", *arguments[2:])
    assert code in (3, 4)
