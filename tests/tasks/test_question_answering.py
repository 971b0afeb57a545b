"""Answers against a plain definition over the logits of `transformers`, which has had no such pipeline since 5.0."""

import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import TEXTS
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
) -> tuple[dict[tuple[int, int], float], float]:
    """((start, end) → score, score of no answer), by the tokenizer's own windows and one loop over all pairs."""
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
    found: dict[tuple[int, int], float] = {}
    no_answer = []
    for window, offsets in enumerate(windows["offset_mapping"]):
        with torch.no_grad():
            output = model(**{name: torch.tensor([windows[name][window]]) for name in names})
        # With a [CLS] in front, that is row 0 of those that count.
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
                key = offsets[rows[first]][0], offsets[rows[last]][1]
                found[key] = max(found.get(key, 0), starts[first + begin] * ends[last + begin])
    return found, min(no_answer)


@pytest.mark.parametrize(
    ("context", "options"),
    [
        *((text, {}) for text in TEXTS if text),
        (TEXTS[1], {"max_answer_len": 3}),
        (LONG, {"doc_stride": 0}),
        (LONG, {"doc_stride": 40}),
        (LONG, {"max_seq_len": 40, "doc_stride": 7, "max_answer_len": 5}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_equals_the_definition(folder: Path, answer: Any, context: str, options: dict[str, int]) -> None:
    expected, no_answer = expected_answers(
        folder,
        context,
        max_length=options.get("max_seq_len", 128),
        stride=options.get("doc_stride", 0),
        max_answer_len=options.get("max_answer_len", 15),
    )
    actual = answer({"question": QUESTION, "context": context}, top_k=20, **options)
    best = sorted(expected.values(), reverse=True)[:20]
    assert [found["score"] for found in actual] == pytest.approx(best, rel=1e-4)
    for found in actual:
        assert set(found) == {"score", "start", "end", "answer"}
        assert found["score"] == pytest.approx(expected[found["start"], found["end"]], rel=1e-4)
        assert found["answer"] == context[found["start"] : found["end"]] != ""
    assert answer({"question": QUESTION, "context": context}, **options) == actual[0]
    with_none = answer(
        {"question": QUESTION, "context": context}, top_k=10**6, handle_impossible_answer=True, **options
    )
    assert len(with_none) == len(expected) + 1
    [none] = [found for found in with_none if not found["answer"]]
    assert (none["start"], none["end"], none["score"]) == (0, 0, pytest.approx(no_answer, rel=1e-4))
    assert with_none == sorted(with_none, key=lambda found: -found["score"])


@pytest.mark.parametrize("family", ["bart", "t5", "llama"])
def test_every_form_answers(family: str, tmp_path: Path) -> None:
    """Only where [CLS] stands in front does it take a share of the probability, and may there be no answer."""
    make = {
        "bart": lambda: checkpoints.bart("BartForQuestionAnswering", tmp_path),
        "t5": lambda: checkpoints.t5(tmp_path, "T5ForQuestionAnswering"),
        "llama": lambda: checkpoints.llama("LlamaForQuestionAnswering", tmp_path),
    }
    folder = make[family]()
    answer = triform.pipeline("question-answering", model=folder, max_seq_len=60, doc_stride=7)
    expected, no_answer = expected_answers(folder, LONG, max_length=60, stride=7, max_answer_len=15)
    given = {"question": QUESTION, "context": LONG}
    actual = answer(given, top_k=20)
    assert [found["score"] for found in actual] == pytest.approx(sorted(expected.values(), reverse=True)[:20], rel=1e-4)
    for found in actual:
        assert found["score"] == pytest.approx(expected[found["start"], found["end"]], rel=1e-4)
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
    # What would be cut otherwise, is not.
    assert answer(given, top_k=5, doc_stride=3, max_seq_len=60) == expected
    assert answer([given, given], top_k=5) == [expected, expected]
    assert list(answer(iter([given]))) == expected[:1]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("a", {}, r'Expected an object {"question": text, "context": text}, got \'a\''),
        ({"question": "a"}, {}, "Expected an object"),
        ({"question": "a", "context": ["b"]}, {}, r"context: expected a text, got \['b'\]"),
        ({"question": " ", "context": "b"}, {}, "question is empty: expected a text, got ' '"),
        ({"question": "a", "context": ""}, {}, "context is empty: expected a text, got ''"),
        ({"question": "a", "context": "\u200b\x00"}, {}, "The text has no token"),
        ({"question": "a " * 140, "context": "b"}, {}, "143 tokens stand beside the text, so that 128 leave no room"),
        (
            {"question": "a", "context": "b " * 140},
            {"doc_stride": 124},
            "overlap of 124 tokens is no less than the 124",
        ),
        ({"question": "a", "context": "b"}, {"long_input": "truncate"}, "read in windows and never cut. Leave it out"),
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
