"""Checkpoints whose config.json names no architecture: the task chooses the head, as in transformers."""

import json
import pickle
from pathlib import Path

import pytest
import transformers

import triform
from tests import checkpoints
from triform import spec
from triform.errors import WeightError


def drop_architectures(folder: Path) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["architectures"]
    path.write_text(json.dumps(config))
    return folder


def test_a_classifier(minilm: Path, tmp_path: Path) -> None:
    folder = drop_architectures(checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=3))
    expected = transformers.pipeline("text-classification", str(folder))("A cat sat.")
    [answer] = triform.pipeline("text-classification", folder)(["A cat sat."])
    assert answer["label"] == expected[0]["label"]
    assert answer["score"] == pytest.approx(expected[0]["score"], abs=1e-5)


def test_a_language_model_and_what_it_cannot_do(tmp_path: Path) -> None:
    folder = drop_architectures(checkpoints.llama("LlamaForCausalLM", tmp_path))
    options = {"max_new_tokens": 5, "do_sample": False}
    expected = transformers.pipeline("text-generation", str(folder))("Once upon", **options)
    [answer] = triform.pipeline("text-generation", folder)(["Once upon"], **options)
    assert answer[0]["generated_text"] == expected[0]["generated_text"]
    with pytest.raises(WeightError, match="missing     score.weight"):
        triform.pipeline("text-classification", folder)


def test_a_pickled_model_keeps_the_chosen_head(tmp_path: Path) -> None:
    folder = drop_architectures(checkpoints.llama("LlamaForCausalLM", tmp_path))
    model = triform.load(folder, head=spec.LanguageHead)
    assert pickle.loads(pickle.dumps(model)).spec == model.spec
