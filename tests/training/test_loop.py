"""The training loop: the same numbers undisturbed, killed and resumed, in one process and in two."""

import json
import multiprocessing
import random
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.checkpoints import llama
from tests.training import small
from triform.errors import InputError
from triform.training.log import read_log

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.training.small"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama("LlamaForCausalLM", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_lines(tmp_path_factory.mktemp("texts") / "in.txt")


@pytest.fixture(scope="module")
def undisturbed(model: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    run(model, texts, output).join()
    return output


def run(*arguments: Any) -> Any:
    process = PROCESSES.Process(target=small.train_alone, args=arguments)
    process.start()
    return process


def numbers(output: Path) -> list[dict[str, Any]]:
    """Return the log without the clock."""
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in read_log(output / "training" / "log.jsonl")
    ]


@pytest.mark.slow
def test_the_loss_falls_and_the_model_is_saved(undisturbed: Path) -> None:
    records = numbers(undisturbed)
    steps = [record for record in records if "loss" in record]
    scores = {record["step"]: record["scores"] for record in records if "scores" in record}
    assert [record["step"] for record in steps] == list(range(1, 121))
    assert list(scores) == [*range(7, 121, 7), 120]
    assert records[-1] == {"step": 120, "ended": "steps"}
    assert steps[-1]["loss"] < 0.3 * steps[0]["loss"]
    best = min(scores.values(), key=lambda own: own["loss"])
    assert small.score(triform.load(undisturbed, engine="torch")) == best != scores[120]


@pytest.mark.slow
def test_ten_kills_end_in_the_same_numbers(model: Path, texts: Path, undisturbed: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    kills = 0
    while kills < 10:
        process = run(model, texts, tmp_path)
        process.join(rng.uniform(0.05, 0.4))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
        assert not list(tmp_path.glob("*.partial"))
    run(model, texts, tmp_path).join()
    assert kills >= 5
    assert numbers(tmp_path) == numbers(undisturbed)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(model: Path, texts: Path, undisturbed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [run(model, texts, tmp_path, rank, port) for rank in (0, 1)]
    for process in processes:
        process.join()
    ours, theirs = (
        np.array([record["loss"] for record in numbers(path) if "loss" in record]) for path in (tmp_path, undisturbed)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.fixture(scope="module")
def whole(model: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the numbers of eight steps."""
    output = tmp_path_factory.mktemp("whole")
    small.train(model, texts, output, steps=8)
    assert [path.name for path in (output / "training").iterdir() if path.is_dir()] == []
    return numbers(output)


@pytest.fixture
def half(model: Path, texts: Path, tmp_path: Path) -> Path:
    """Run the same training up to the fifth record, with checkpoints of steps two and four."""
    small.train(model, texts, tmp_path, steps=8, until=5)
    assert [path.name[-1] for path in checkpoints(tmp_path)] == ["2", "4"]
    return tmp_path


def checkpoints(output: Path) -> list[Path]:
    return sorted((output / "training").glob("checkpoint-*"))


def test_a_run_goes_on_from_its_last_checkpoint(
    model: Path, texts: Path, half: Path, whole: list[dict[str, Any]]
) -> None:
    again = small.train(model, texts, half, steps=8)
    assert again[0]["step"] == 5
    assert numbers(half) == whole


def test_a_damaged_checkpoint_is_passed_over(model: Path, texts: Path, half: Path, whole: list[dict[str, Any]]) -> None:
    path = checkpoints(half)[-1] / "exp_avg.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="exp_avg.safetensors does not have the digest that it was written with"):
        again = small.train(model, texts, half, steps=8)
    assert again[0]["step"] == 3
    assert numbers(half) == whole


def test_nothing_but_damaged_checkpoints_is_refused(model: Path, texts: Path, half: Path) -> None:
    for path in checkpoints(half):
        (path / "state.json").write_text("{")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InputError, match="only damaged checkpoints"):
        small.train(model, texts, half, steps=8)


def test_a_checkpoint_of_another_run_is_refused(model: Path, texts: Path, half: Path) -> None:
    for path in checkpoints(half):
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps({**state, "run": "another"}))
    with pytest.raises(InputError, match="other settings, data or model"):
        small.train(model, texts, half, steps=8)


def test_what_an_end_in_the_middle_of_writing_leaves_is_ignored(
    model: Path, texts: Path, half: Path, whole: list[dict[str, Any]]
) -> None:
    last = checkpoints(half)[-1]
    shutil.move(last, last.with_name(f"{last.name}.partial"))
    with open(half / "training" / "log.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    small.train(model, texts, half, steps=8)
    assert numbers(half) == whole


def test_however_a_step_is_cut_its_gradient_is_that_of_all_its_targets(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "KEPT", 1.0)
    whole = small.train(model, texts, tmp_path / "whole", token_budget=10**6, steps=4)
    parts = small.train(model, texts, tmp_path / "parts", token_budget=8, steps=4)
    for key in ("loss", "gradient_norm"):
        ours, theirs = ([each[key] for each in own if key in each] for own in (parts, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
