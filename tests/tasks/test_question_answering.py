"""Inputs and answers of question answering; `test_goldens.py` compares with the pipeline of `transformers` 4."""

import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import TEXTS, assert_same
from triform.errors import InputError, WrongTaskError

QUESTION = "Who sat where?"
LONG = " ".join(TEXTS) * 3


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.bert("BertForQuestionAnswering", minilm, tmp_path_factory.mktemp("spans"))


@pytest.fixture(scope="module")
def answer(folder: Path) -> Any:
    return triform.pipeline("question-answering", model=folder, token_budget=100)


def expected_answers(
    folder: Path, context: str, *, max_length: int, stride: int, max_answer_len: int
) -> tuple[dict[str, float], float]:
    """Return (words → score, score of no answer), by the windows of the tokenizer and one loop over all pairs."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    names = {"input_ids", "token_type_ids"} & set(inspect.signature(model.forward).parameters)
    windows = tokenizer(
        QUESTION,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    found: dict[str, float] = {}
    no_answer = []
    for window, offsets in enumerate(windows["offset_mapping"]):
        with torch.no_grad():
            output = model(**{name: torch.tensor([windows[name][window]]) for name in names})
        # A leading [CLS] is row 0 of the scored rows.
        first_row = [0] if windows["input_ids"][window][0] == tokenizer.cls_token_id else []
        rows = [row for row, sequence in enumerate(windows.sequence_ids(window)) if sequence == 1]
        starts, ends = (
            torch.softmax(logits[0, [*first_row, *rows]].double(), dim=0).tolist()
            for logits in (output.start_logits, output.end_logits)
        )
        no_answer.append(starts[0] * ends[0])
        begin = len(first_row)
        for first, last in itertools.combinations_with_replacement(range(len(rows)), 2):
            if last - first < max_answer_len:
                words = context[offsets[rows[first]][0] : offsets[rows[last]][1]].lower()
                found[words] = found.get(words, 0) + starts[first + begin] * ends[last + begin]
    return found, min(no_answer)


def test_windows_of_any_budget_give_one_answer(folder: Path, answer: Any) -> None:
    given = {"question": QUESTION, "context": LONG}
    found = answer(given, top_k=20)
    assert len(found) == 20
    assert_same(found, triform.pipeline("question-answering", model=folder, token_budget=10**6)(given, top_k=20))
    for one in found:
        assert one["answer"] == LONG[one["start"] : one["end"]] != ""
    assert found[0] == answer(given, top_k=20, handle_impossible_answer=True)[0]


def test_words_stay_whole(answer: Any) -> None:
    word = "Donaudampfschifffahrtskapitän"
    context = f"{word} sat."
    given = {"question": QUESTION, "context": context}
    borders = {0, len(word), len(word) + 1, len(context) - 1, len(context)}
    aligned = answer(given, top_k=5)
    assert all({found["start"], found["end"]} <= borders for found in aligned)
    apart = answer(given, top_k=5, align_to_words=False)
    assert not all({found["start"], found["end"]} <= borders for found in apart)


def test_what_is_said_twice_is_one_answer(answer: Any) -> None:
    found = answer({"question": QUESTION, "context": "cat Cat cat"}, top_k=50)
    texts = [one["answer"] for one in found]
    assert sorted(text.lower() for text in texts) == ["cat", "cat cat", "cat cat cat"]
    assert sum(one["score"] for one in found) < 1


def test_question_and_context_by_themselves(answer: Any) -> None:
    questions, contexts = [QUESTION, "Where?"], TEXTS[:2]
    expected = [answer({"question": q, "context": c}) for q, c in zip(questions, contexts, strict=True)]
    assert answer(question=QUESTION, context=contexts[0]) == expected[0]
    assert answer(QUESTION, contexts[0]) == expected[0]
    assert answer(question=questions, context=contexts) == expected
    assert answer(question=questions, context=contexts[0])[0] == expected[0]
    with pytest.raises(InputError, match="Expected as many contexts as questions, got 1 and 2"):
        answer(question=questions, context=contexts[:1])
    with pytest.raises(InputError, match="question: expected a text|context: expected a text, got None"):
        answer(question=QUESTION)
    with pytest.raises(InputError, match="expected the question once, got it twice"):
        answer(QUESTION, contexts[0], question=QUESTION)


@pytest.mark.parametrize("family", ["bart", "t5", "llama"])
def test_every_form_answers(family: str, tmp_path: Path) -> None:
    """A leading [CLS] takes a share of the probability and permits no answer; a model without [CLS] always answers."""
    make = {
        "bart": lambda: checkpoints.bart("BartForQuestionAnswering", tmp_path),
        "t5": lambda: checkpoints.t5(tmp_path, "T5ForQuestionAnswering"),
        "llama": lambda: checkpoints.llama("LlamaForQuestionAnswering", tmp_path),
    }
    folder = make[family]()
    answer = triform.pipeline("question-answering", model=folder, max_seq_len=60, doc_stride=7)
    expected, no_answer = expected_answers(folder, LONG, max_length=60, stride=7, max_answer_len=15)
    given: dict[str, Any] = {"question": QUESTION, "context": LONG}
    actual = answer(given, top_k=10**6, align_to_words=False)
    assert {found["answer"].lower(): found["score"] for found in actual} == pytest.approx(expected, rel=1e-4)
    if family == "bart":
        found_all = answer(given, top_k=10**6, handle_impossible_answer=True)
        [none] = [found for found in found_all if (found["start"], found["end"]) == (0, 0)]
        assert none["score"] == pytest.approx(no_answer, rel=1e-4)
    else:
        with pytest.raises(InputError, match="handle_impossible_answer: this model has no token that stands for"):
            answer(given, handle_impossible_answer=True)


def test_one_window_where_all_fits(answer: Any) -> None:
    given = {"question": QUESTION, "context": TEXTS[1]}
    expected = answer(given, top_k=5)
    assert len(expected) == 5
    # A text within `max_seq_len` is one window, whatever the stride.
    assert answer(given, top_k=5, doc_stride=3, max_seq_len=60) == expected
    assert answer([given, given], top_k=5) == [expected, expected]
    assert list(answer(iter([given]))) == expected[:1]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("a", {}, r'Expected an object {"question": text, "context": text}, got \'a\''),
        ({"question": "a"}, {}, "Expected an object"),
        ({"question": "a", "context": ["b"]}, {}, r"context: expected a text, got \['b'\]"),
        ({"question": "", "context": "b"}, {}, "question is empty: expected a text, got ''"),
        ({"question": "a", "context": ""}, {}, "context is empty: expected a text, got ''"),
        ({"question": "a", "context": "\u200b\x00"}, {}, "context has no token"),
        (
            {"question": "a " * 140, "context": "b"},
            {},
            "143 tokens stand beside the text, so that a window of 128 tokens has no room",
        ),
        (
            {"question": "a", "context": "b " * 140},
            {"doc_stride": 124},
            "doc_stride=124: An overlap of 124 tokens fills the 124",
        ),
        ({"question": "a", "context": "b"}, {"max_seq_len": 1}, "max_seq_len=1, .* a window of 1 tokens has no room"),
        ({"question": "a", "context": "b"}, {"long_input": "truncate"}, "'truncate': expected one of window, error"),
        (
            {"question": "a", "context": "b " * 140},
            {"long_input": "error"},
            'have 144 tokens, more than the 128 that fit.* long_input="window"',
        ),
        ({"question": "a", "context": "b"}, {"max_answer_len": 0}, "max_answer_len=0: expected a whole number"),
    ],
    ids=str,
)
def test_refuses_bad_input(answer: Any, given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer(given, **options)


def test_needs_a_span_head(minilm: Path) -> None:
    with pytest.raises(WrongTaskError, match="needs Encoder or Decoder or EncoderDecoder with SpanHead"):
        triform.pipeline("question-answering", model=minilm)
