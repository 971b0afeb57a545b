"""Pipelines and models are pickled as names and options, and load again."""

import copy
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests import checkpoints
from triform.errors import InputError

TEXTS = ["The cat sat.", "no"]


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.bert("BertForSequenceClassification", minilm, tmp_path_factory.mktemp("bert"), num_labels=3)


@pytest.mark.parametrize("options", [{}, {"engine": "reference"}, {"dtype": "int8", "top_k": None}], ids=str)
def test_a_pipeline_is_the_same_again(folder: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    classify = triform.pipeline("text-classification", folder.name + "/", **options)
    pickled = pickle.dumps(classify)
    assert len(pickled) < 1000
    monkeypatch.chdir("/")
    for again in (pickle.loads(pickled), copy.deepcopy(classify)):
        assert again is not classify
        assert again.options == classify.options
        assert again(TEXTS) == classify(TEXTS)
        assert pickle.dumps(again) == pickled


def test_a_model_is_the_same_again(folder: Path) -> None:
    model = triform.load(folder, with_head=False, dtype="bfloat16")
    again = pickle.loads(pickle.dumps(model))
    batch = triform.Batch.from_ids([[3, 4, 5]])
    np.testing.assert_array_equal(again(batch).last_hidden_state, model(batch).last_hidden_state)


def test_a_model_in_memory_is_refused(folder: Path) -> None:
    pytest.importorskip("torch")
    from triform.model import load_for_training

    with pytest.raises(InputError, match=r"trained or made in memory.*Save it with model\.save"):
        pickle.dumps(load_for_training(folder))
    classify = triform.pipeline("text-classification", folder)
    with pytest.raises(InputError, match="made with a model in memory"):
        pickle.dumps(type(classify)(classify.model, classify.processor))


def answer(embed: Any, texts: list[str]) -> Any:
    return embed(texts)


@pytest.mark.slow
def test_a_spawned_process_answers_the_same(minilm: Path) -> None:
    embed = triform.pipeline("embed", minilm, truncate_dim=16)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(answer, (embed, TEXTS)), embed(TEXTS))
