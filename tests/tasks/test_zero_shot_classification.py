"""Zero-shot classification against the pipeline of `transformers`."""

from pathlib import Path
from typing import Any

import pytest

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import TEXTS, assert_same, both
from triform.errors import InputError, WrongTaskError

LABELS = ["sport", "Katzen & Hunde", "politics, mostly", "猫 🐈"]
NLI = ["contradiction", "neutral", "entailment"]


def nli(minilm: Path, folder: Path, names: list[str]) -> Path:
    config = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return checkpoints.bert("BertForSequenceClassification", minilm, folder, **config)


@pytest.mark.parametrize("names", [NLI, ["Entailment", "neutral", "contradiction"], ["not", "entails"]], ids=str)
def test_equals_transformers(minilm: Path, tmp_path: Path, names: list[str]) -> None:
    ours, reference = both("zero-shot-classification", nli(minilm, tmp_path, names))
    texts = [text for text in TEXTS if text]
    for options in (
        {"candidate_labels": LABELS},
        {"candidate_labels": LABELS, "multi_label": True},
        {"candidate_labels": ["red, white and blue"]},
        {"candidate_labels": "sport, politics ,,weather", "hypothesis_template": "Das handelt von {}."},
    ):
        assert_same(ours(texts, **options), reference(texts, **options))
        assert_same(ours(texts[0], **options), reference(texts[0], **options))
    assert_same(ours(texts, LABELS), reference(texts, LABELS))


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_decoder_equals_transformers(family: str, tmp_path: Path) -> None:
    config = {"id2label": dict(enumerate(NLI)), "label2id": {name: i for i, name in enumerate(NLI)}}
    if family == "bart":
        checkpoints.bart("BartForSequenceClassification", tmp_path, **config)
    else:
        checkpoints.t5(tmp_path, "T5ForSequenceClassification", **config)
    ours, reference = both("zero-shot-classification", tmp_path)
    texts = [text for text in TEXTS if text]
    for options in ({"candidate_labels": LABELS}, {"candidate_labels": LABELS, "multi_label": True}):
        assert_same(ours(texts, token_budget=64, **options), reference(texts, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "candidate_labels=None: expected one or more labels"),
        ({"candidate_labels": []}, r"candidate_labels=\[\]: expected one or more labels"),
        ({"candidate_labels": " , "}, "candidate_labels=' , ': expected one or more labels"),
        ({"candidate_labels": [3]}, r"candidate_labels=\[3\]: expected a text or a list of texts"),
        (
            {"candidate_labels": "a", "hypothesis_template": "It is."},
            "hypothesis_template='It is.': expected {} once, where",
        ),
        ({"candidate_labels": "a", "hypothesis_template": "{} {}"}, "hypothesis_template='{} {}': expected {} once"),
        ({"candidate_labels": "a", "hypothesis_template": "{:>999999999}"}, "expected {} once"),
        ({"candidate_labels": "a", "hypothesis_template": "{0.x}"}, "hypothesis_template='{0.x}': expected {} once"),
        ({"candidate_labels": "a", "hypothesis_template": "{"}, "hypothesis_template='{': expected {} once"),
        ({"candidate_labels": "a", "hypothesis_template": "{x}"}, "hypothesis_template='{x}': expected {} once"),
    ],
    ids=str,
)
def test_labels_and_template_are_checked(minilm: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    classify = triform.pipeline("zero-shot-classification", model=nli(minilm, tmp_path, NLI))
    with pytest.raises(InputError, match=message):
        classify("a text", **options)


def test_needs_a_text_and_a_model_of_entailment(minilm: Path, tmp_path: Path) -> None:
    classify = triform.pipeline("zero-shot-classification", model=nli(minilm, tmp_path / "nli", NLI))
    with pytest.raises(InputError, match="expected a text, got {'text': 'a'}"):
        classify({"text": "a"}, candidate_labels=LABELS)
    # transformers raises an error too.
    with pytest.raises(InputError, match="the text is empty, so there is nothing to classify"):
        classify("", candidate_labels=LABELS)
    for names in (["NEG", "POS"], ["entailment"]):
        folder = nli(minilm, tmp_path / names[0], names)
        with pytest.raises(WrongTaskError, match=f"of its labels, {', '.join(names)}, none begins with entail"):
            triform.pipeline("zero-shot-classification", model=folder)
