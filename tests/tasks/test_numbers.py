"""Numbers of inputs in errors and warnings count over the whole input of a call."""

from pathlib import Path
from typing import Any

import pytest

import triform
from tests import checkpoints
from triform.errors import InputError, TruncationWarning


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    return checkpoints.bert("BertForSequenceClassification", minilm, path, num_labels=2, max_position_embeddings=64)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "embed", "feature-extraction"])
def test_an_error_has_the_number_in_the_whole_list(folder: Path, task: str) -> None:
    answer = triform.pipeline(task, folder)
    for bad, message in (
        ("a " * 300, "^Text 600 has 302 tokens"),
        ("\ud83d", "^Text 600 is not Unicode"),
        (None, "^Input 600: "),
    ):
        texts: list[Any] = ["a cat"] * 700
        texts[600] = bad
        with pytest.raises(InputError, match=message):
            answer(texts)
        with pytest.raises(InputError, match=message):
            list(answer(iter(texts)))


def test_a_lone_input_needs_no_number(folder: Path) -> None:
    with pytest.raises(InputError, match="^Expected a text"):
        triform.pipeline("text-classification", folder)({"title": "a"})


def test_ids_outside_the_vocabulary_have_the_number_too(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, vocab_size=2000, num_labels=2)
    texts = ["the"] * 300 + ["kitten"]
    with pytest.raises(InputError, match=r"^Input 300: Sequence 0, token 1: id \d+ is outside the vocabulary"):
        triform.pipeline("text-classification", folder, token_budget=64)(texts)


def test_the_warning_of_cut_texts_counts_all(folder: Path) -> None:
    texts = ["a cat"] * 600
    for number in (3, 300, 599):
        texts[number] = "a " * 70
    classify = triform.pipeline("text-classification", folder, long_input="truncate")
    for given in (texts, iter(texts)):
        with pytest.warns(TruncationWarning) as found:
            list(classify(given))
        assert [str(warning.message) for warning in found] == [
            "3 of 600 texts were longer than 64 tokens; 24 tokens were not read."
        ]


def test_a_table_is_refused(folder: Path) -> None:
    class DataFrame(list[str]):
        columns = ("text",)

    class Series(list[str]):
        pass

    classify = triform.pipeline("text-classification", folder)
    for table in (DataFrame(["text"]), Series(["a"])):
        with pytest.raises(InputError, match=r"got a (DataFrame|Series)\. Give the list of one column"):
            classify(table)
