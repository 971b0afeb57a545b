"""Ranking against sentence-transformers' CrossEncoder on the same checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import TEXTS, assert_same
from tests.weights import edit_tensors
from triform.errors import InputError, UnsupportedModelError, WrongTaskError
from triform.tasks.probabilities import sigmoid

QUERY = "Where do cats sit?"
IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"sbert_ce_default_activation_function": IDENTITY},
        {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
    ],
    ids=str,
)
def test_equals_a_cross_encoder(minilm: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=1, **config)
    compare(folder)


def test_an_encoder_decoder_equals_a_cross_encoder(tmp_path: Path) -> None:
    compare(checkpoints.bart("BartForSequenceClassification", tmp_path, num_labels=1))


@pytest.mark.parametrize("activation", [None, IDENTITY])
def test_equals_a_cross_encoder_as_it_saves_itself(minilm: Path, tmp_path: Path, activation: str | None) -> None:
    config = {} if activation is None else {"sbert_ce_default_activation_function": activation}
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "old", num_labels=1, **config)
    sentence_transformers.CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "new"))
    compare(tmp_path / "new")


def compare(folder: Path) -> None:
    reference = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    rank = triform.pipeline("text-ranking", model=folder, token_budget=64)
    given = {"query": QUERY, "documents": TEXTS}
    expected = [renamed(found) for found in reference.rank(QUERY, TEXTS)]
    assert_same(rank(given), expected)
    assert_same(rank([given, given]), [expected, expected])
    assert_same(rank(given, top_k=2), expected[:2])
    expected = [renamed(found) for found in reference.rank(QUERY, TEXTS, return_documents=True)]
    assert_same(rank(given, return_documents=True), expected)
    by_index = sorted(rank(given), key=lambda found: found["index"])
    predicted = reference.predict([(QUERY, text) for text in TEXTS])
    assert [found["score"] for found in by_index] == pytest.approx(predicted.tolist(), abs=1e-5)


def renamed(found: dict[str, Any]) -> dict[str, Any]:
    return {"index": found.pop("corpus_id"), **found}


def test_refuses_what_it_cannot_rank(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=1)
    rank = triform.pipeline("rerank", model=folder)
    with pytest.raises(InputError, match=r'Expected an object {"query": text, "documents": \[text, …\]}, got \'a\''):
        rank("a")
    with pytest.raises(InputError, match=r"documents: expected a list of one or more texts, got \[\]"):
        rank({"query": "a", "documents": []})
    good = {"query": "a", "documents": ["b"]}
    with pytest.raises(InputError, match="Input 1: Text 2 has 203 tokens, more than the 128 that fit"):
        rank([good, {"query": "a", "documents": ["b", "c", "d " * 199]}])
    with pytest.raises(InputError, match="top_k=0: expected a whole number of at least 1"):
        rank(good, top_k=0)
    sentence_transformers.CrossEncoder(str(folder), device="cpu").save_pretrained(str(folder))
    settings = folder / "config_sentence_transformers.json"
    kind = {"model_type": "CrossEncoder"}
    settings.write_text(json.dumps({**kind, "activation_fn": "torch.nn.modules.activation.Tanh"}))
    with pytest.raises(UnsupportedModelError, match=r"activation 'torch.*Tanh' is not supported; .* Identity, Sigmoid"):
        triform.pipeline("rerank", model=folder)
    settings.write_text(json.dumps({**kind, "prompts": {"query": "q: "}, "default_prompt_name": "query"}))
    with pytest.raises(UnsupportedModelError, match="default_prompt_name is 'query'"):
        triform.pipeline("rerank", model=folder)
    two = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "two", num_labels=2)
    with pytest.raises(WrongTaskError, match="it scores 2 labels, LABEL_0, LABEL_1; the task needs one score"):
        triform.pipeline("rerank", model=two)


def test_documents_far_below_zero_are_in_order(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=1)

    def shift(tensors: dict[str, Any]) -> None:
        tensors["classifier.weight"].mul_(8)
        tensors["classifier.bias"].fill_(-60)

    edit_tensors(folder, shift)
    documents = ["a", "b", "the cat", "c d", "e"]
    expected = sentence_transformers.CrossEncoder(str(folder), device="cpu").rank(QUERY, documents)
    found = triform.pipeline("rerank", folder)({"query": QUERY, "documents": documents})
    assert [each["index"] for each in found] == [each["corpus_id"] for each in expected]
    assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected], rel=1e-3, abs=0)


def test_a_sigmoid_keeps_its_digits() -> None:
    x = np.array([-800.0, -700, -40, -1e-8, 0, 1e-8, 3, 40, 800])
    np.testing.assert_allclose(sigmoid(x), torch.sigmoid(torch.tensor(x)).numpy(), rtol=1e-14)
