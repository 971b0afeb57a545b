"""`triform quantize`, and the report of the quantization error."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import triform
from tests import checkpoints
from triform.cli.main import app
from triform.errors import InputError, UnsupportedModelError
from triform.inputs import Tokenizer
from triform.model.fidelity import MAX_TOKENS, SAMPLE, compare_models, make_batches


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.llama("LlamaForCausalLM", tmp_path_factory.mktemp("llama"), hidden_size=64)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments), "--engine", "reference"])


def report(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("format", ["int8", "int4"])
def test_it_writes_a_checkpoint_and_says_what_was_lost(llama: Path, format: str, tmp_path: Path) -> None:
    found = report(llama, "--format", format, "--output", tmp_path / "q")
    model, quantized = (triform.load(folder, engine="reference") for folder in (llama, tmp_path / "q"))
    batches = list(make_batches(SAMPLE, Tokenizer.from_checkpoint(model.checkpoint), model))
    assert found["num_tokens"] == sum(len(batch.ids) for batch in batches)
    # The formulas again, over all at once.
    ids = np.concatenate([batch.ids for batch in batches])
    states, logits = [], []
    for own in (model, quantized):
        outputs = [own(batch) for batch in batches]
        states.append(np.concatenate([output.last_hidden_state for output in outputs]).astype(np.float64))
        logits.append(np.concatenate([output.logits for output in outputs]).astype(np.float64))
    cosines = (states[0] * states[1]).sum(1) / np.linalg.norm(states[0], axis=1) / np.linalg.norm(states[1], axis=1)
    assert found["mean_cosine"] == pytest.approx(cosines.mean())
    assert found["worst_cosine"] == pytest.approx(cosines.min())
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits)
    assert found["divergence"] == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())
    assert found["agreement"] == pytest.approx((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    ends = np.cumsum([len(batch.ids) for batch in batches]) - 1
    rows = np.setdiff1d(np.arange(len(ids) - 1), ends)
    for key, probabilities in (("perplexity_before", p), ("perplexity_after", q)):
        assert found[key] == pytest.approx(np.exp(-np.log(probabilities[rows, ids[rows + 1]]).mean()))
    # The vocabulary is most of a small model, and stays in floats.
    assert found["bytes_after"] < 0.7 * found["bytes_before"]
    assert found["output"] == str(tmp_path / "q")


def test_the_report_for_people(llama: Path, minilm: Path, tmp_path: Path) -> None:
    causal = run(llama, "--format", "int8", "--output", tmp_path / "q")
    assert causal.exit_code == 0, causal.output
    for words in (
        "weights",
        "12 built-in texts",
        "cosine 0.99",
        "nats a token",
        "the same for",
        "perplexity",
        "Written",
    ):
        assert words in causal.stdout
    encoder = run(minilm, "--format", "int8", "--report-only", "--text", _file(tmp_path, "A cat.\n\nA dog.\n"))
    assert encoder.exit_code == 0, encoder.output
    assert "of 2 texts" in encoder.stdout
    assert "Nothing was written." in encoder.stdout
    assert "perplexity" not in encoder.stdout
    assert "nats" not in encoder.stdout


def _file(folder: Path, content: str) -> Path:
    path = folder / "texts.txt"
    path.write_text(content, encoding="utf-8")
    return path


def test_an_encoder_decoder_writes_what_it_reads(tmp_path: Path) -> None:
    folder = checkpoints.t5(tmp_path / "t5", d_model=64)
    found = report(folder, "--format", "int8", "--report-only")
    assert found["worst_cosine"] > 0.98
    assert found["divergence"] is not None
    assert found["perplexity_before"] is None
    assert found["output"] is None


def test_a_model_has_lost_nothing_against_itself(llama: Path) -> None:
    model = triform.load(llama, engine="reference")
    same = compare_models(model, model, make_batches(SAMPLE, Tokenizer.from_checkpoint(model.checkpoint), model))
    assert same.worst_cosine == pytest.approx(1)
    assert (same.divergence, same.agreement) == (0, 1)
    assert same.perplexity_before == same.perplexity_after


def test_long_text_is_read_in_windows(llama: Path) -> None:
    model = triform.load(llama, engine="reference")
    tokenizer = Tokenizer.from_checkpoint(model.checkpoint)
    lengths = [len(batch.ids) for batch in make_batches(["word " * 300], tokenizer, model)]
    assert max(lengths) <= min(MAX_TOKENS, 128)
    assert len(lengths) > 1


def test_a_checkpoint_is_replaced_only_if_asked(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    before = (folder / "model.safetensors").read_bytes()
    for output in (folder, _quantized(folder, tmp_path / "q")):
        result = run(folder, "-f", "int8", "-o", output)
        assert isinstance(result.exception, InputError)
        assert "holds a checkpoint. Name another folder, or pass --overwrite" in str(result.exception)
    assert (folder / "model.safetensors").read_bytes() == before
    result = run(folder, "-f", "int8", "-o", folder / "q")
    assert "lies inside of" in str(result.exception)
    assert run(folder, "-f", "int8", "-o", folder, "--overwrite").exit_code == 0
    assert len((folder / "model.safetensors").read_bytes()) < len(before)


def _quantized(folder: Path, output: Path) -> Path:
    assert run(folder, "-f", "int8", "-o", output).exit_code == 0
    return output


def test_mistakes_are_named(llama: Path, tmp_path: Path) -> None:
    neither, both = run(llama, "-f", "int8"), run(llama, "-f", "int8", "-o", tmp_path / "q", "--report-only")
    for result in (neither, both):
        assert result.exit_code == 2
        assert "--report-only" in result.output
    assert run(llama, "--format", "float16", "-o", tmp_path / "q").exit_code == 2
    for path, message in ((tmp_path / "none", "cannot be read"), (_file(tmp_path, " \n"), "holds no text")):
        result = run(llama, "-f", "int8", "-o", tmp_path / "q", "--text", path)
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
    assert not (tmp_path / "q").exists()
    narrow = checkpoints.llama("LlamaForCausalLM", tmp_path / "narrow", hidden_size=48)
    result = run(narrow, "-f", "int4", "-o", tmp_path / "q")
    assert isinstance(result.exception, UnsupportedModelError)
    assert "48 inputs, not a multiple of 32" in str(result.exception)
