"""Scores against values worked out by hand."""

import math

import pytest

from triform.training import metrics


def test_single_label() -> None:
    scores = metrics.single_label(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["matthews"] == pytest.approx(1 / math.sqrt(3))


def test_multi_label() -> None:
    scores = metrics.multi_label([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    assert scores == {"accuracy": 0.5, "micro_f1": pytest.approx(0.8), "macro_f1": pytest.approx((2 / 3 + 1) / 2)}


def test_correlation() -> None:
    scores = metrics.correlation([1.0, 2.0, 9.0], [1.0, 2.0, 3.0])
    assert scores["spearman"] == pytest.approx(1)
    assert scores["pearson"] == pytest.approx(0.917663, abs=1e-6)


def test_entities_count_whole() -> None:
    scores = metrics.entities([["B-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "B-LOC"]])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.5, 0.5, 0.5)
    assert metrics.entities([["I-ORG", "I-ORG", "O"]], [["I-ORG", "I-ORG", "O"]])["f1"] == 1


def test_translation() -> None:
    scores = metrics.translation(["the cat sat on the mat", "a dog"], ["the cat sat on the mat", "a dog"])
    assert scores["bleu"] == pytest.approx(100)
    assert scores["chrf"] == pytest.approx(100)
    assert metrics.translation(["nothing of it"], ["the cat sat on the mat"])["bleu"] < 10


def test_perplexity() -> None:
    assert metrics.perplexity([math.log(2), math.log(8)]) == {"loss": pytest.approx(math.log(4)), "perplexity": 4}


def test_spans() -> None:
    scores = metrics.spans(["The Eiffel Tower.", "in Paris", ""], [["eiffel tower"], ["Paris", "Lyon"], ["x"]])
    assert scores == {"exact_match": pytest.approx(1 / 3), "f1": pytest.approx((1 + 2 / 3) / 3)}
