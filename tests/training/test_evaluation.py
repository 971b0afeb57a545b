"""Scores of every task, compared with the answers of the task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests.checkpoints import bert, llama, t5
from triform.data import Row
from triform.errors import InputError
from triform.training import metrics
from triform.training.evaluation import evaluate

TEXTS = ["Once upon a time", "The house is wonderful, and so is the cat on the mat.", "numbers: 1 2 3"]


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(own, f"in.jsonl, line {number}") for number, own in enumerate(values, 1)]


def test_labels_may_be_numbers(minilm: Path, tmp_path: Path) -> None:
    labels = {0: "no", 1: "yes"}
    folder = bert("BertForSequenceClassification", minilm, tmp_path, id2label=labels)
    classify = triform.pipeline("text-classification", model=folder)
    answers = [answer["label"] for answer in classify(TEXTS)]
    given = rows(*({"text": text, "label": gold} for text, gold in zip(TEXTS, ["yes", 0, "1"], strict=True)))
    assert evaluate(classify, given) == metrics.single_label(answers, ["yes", "no", "yes"])
    with pytest.raises(InputError, match="line 1: label 'maybe' is none of the model's: no, yes"):
        evaluate(classify, rows({"text": "a", "label": "maybe"}))


def test_several_labels_and_numbers(minilm: Path, tmp_path: Path) -> None:
    labels = {"id2label": {0: "a", 1: "b"}, "problem_type": "multi_label_classification"}
    folder = bert("BertForSequenceClassification", minilm, tmp_path / "many", **labels)
    classify = triform.pipeline("text-classification", model=folder)
    likely = [[one["label"] for one in answer if one["score"] > 0.5] for answer in classify(TEXTS, top_k=None)]
    given = rows(*({"text": text, "labels": own} for text, own in zip(TEXTS, likely, strict=True)))
    assert evaluate(classify, given)["accuracy"] == 1
    folder = bert("BertForSequenceClassification", minilm, tmp_path / "number", num_labels=1, problem_type="regression")
    classify = triform.pipeline("text-classification", model=folder)
    scores = [answer["score"] for answer in classify(TEXTS)]
    given = rows(*({"text": text, "score": str(-own)} for text, own in zip(TEXTS, scores, strict=True)))
    assert evaluate(classify, given)["spearman"] == pytest.approx(-1)
    with pytest.raises(InputError, match="line 1: score = 'high' is not a number"):
        evaluate(classify, rows({"text": "a", "score": "high"}))


@pytest.mark.parametrize("make", [bert, llama])
def test_words_have_the_tag_of_their_first_piece(make: Any, minilm: Path, tmp_path: Path) -> None:
    labels: dict[str, Any] = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}}
    if make is bert:
        folder = bert("BertForTokenClassification", minilm, tmp_path, **labels)
    else:
        folder = llama("LlamaForTokenClassification", tmp_path, **labels)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    words = ["Zyzzyva", "lives,", "in", "\u200b", "Brandenburg"]
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        best = model(**encoded).logits[0].argmax(-1).tolist()
    places = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    tags = []
    for place, word in zip(places, words, strict=True):
        own = [label for (begin, end), label in zip(offsets, best, strict=True) if place < end <= place + len(word)]
        tags.append(labels["id2label"][own[0]] if own else "O")
    recognize = triform.pipeline("token-classification", model=folder)
    assert evaluate(recognize, rows({"tokens": words, "tags": tags}))["accuracy"] == 1


def test_perplexity_of_the_next_token(tmp_path: Path) -> None:
    folder = llama("LlamaForCausalLM", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    losses, counts = [], []
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            losses.append(model(ids, labels=ids).loss.item())
        counts.append(ids.shape[1] - 1)
    scores = evaluate(triform.pipeline("text-generation", model=folder), rows(*({"text": text} for text in TEXTS)))
    assert scores["loss"] == pytest.approx(np.average(losses, weights=counts), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))


def test_perplexity_of_hidden_tokens_is_the_same_each_time(minilm: Path, tmp_path: Path) -> None:
    fill = triform.pipeline("fill-mask", model=bert("BertForMaskedLM", minilm, tmp_path))
    given = rows(*({"text": text} for text in TEXTS))
    first = evaluate(fill, given)
    assert first == evaluate(fill, given)
    assert first["loss"] == pytest.approx(np.log(30522), rel=0.3)  # the model is untrained


def test_translations_and_answers(minilm: Path, tmp_path: Path) -> None:
    write = triform.pipeline("text2text-generation", model=t5(tmp_path / "t5"), max_new_tokens=8)
    said = [answer["generated_text"] for answer in write(TEXTS)]
    given = rows(*({"source": text, "target": own} for text, own in zip(TEXTS, said, strict=True)))
    assert evaluate(write, given) == metrics.translation(said, said)
    answer = triform.pipeline("question-answering", model=bert("BertForQuestionAnswering", minilm, tmp_path / "bert"))
    found = answer({"question": "Where?", "context": TEXTS[1]})["answer"]
    given = rows({"question": "Where?", "context": TEXTS[1], "answers": ["x", found]})
    assert evaluate(answer, given) == {"exact_match": 1, "f1": 1}


@pytest.mark.parametrize("task", ["sentence-embedding", "sentence-similarity"])
def test_similarity(task: str, minilm: Path) -> None:
    pairs = [("a cat", "a kitten", 5), ("a cat", "the stock market", 0.1), ("a red car", "an automobile", 4)]
    given = rows(*({"text": first, "text_pair": second, "score": score} for first, second, score in pairs))
    assert evaluate(triform.pipeline(task, model=minilm), given)["spearman"] == pytest.approx(1)


def test_what_cannot_be_scored(minilm: Path) -> None:
    embed = triform.pipeline("sentence-embedding", model=minilm)
    with pytest.raises(InputError, match="the files hold no row"):
        evaluate(embed, [])
    with pytest.raises(InputError, match="line 1: there is no text_pair among text, score. Name its column"):
        evaluate(embed, rows({"text": "a", "score": 1}))
    with pytest.raises(InputError, match="feature-extraction has no scores"):
        evaluate(triform.pipeline("feature-extraction", model=minilm), rows({"text": "a"}))
