"""What people may hand over, and what they may set: every task answers, or says in an InputError what is wrong."""

import math
import typing
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import triform
from tests.damage import soundness
from tests.damage.soundness import Sound
from tests.damage.worker import is_finite
from triform.errors import InputError
from triform.tasks import TASKS, Task, find_task

ODD_TEXTS = (
    *("", " ", "\n\t ", "\x00", "a\x00b", "\x07\x1b[0m", "\ufeff", "\u200b\u200d", "\ud800", "a\udfff", "A cat sat."),
    *("[MASK]", "the [MASK] [MASK]", "[CLS] [SEP]", "</s> <s>", ">>fra<< x", "{}", "%s {0} {x}"),
    *("🐈‍⬛", "ﷺ" * 9, "\u0301" * 50, "\U000e0041", "𝕏" * 200),
    *("A" * 1_000_000, "the cat " * 125_000, " " * 1_000_000),
)
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=50)
NO_TEXTS: tuple[Any, ...] = (
    None,
    True,
    3,
    2.5,
    math.nan,
    b"text",
    bytearray(b"x"),
    object(),
    {},
    {"text": 3},
    set(),
    range(3),
    len,
)
OTHER = st.sampled_from(NO_TEXTS)
NAMES = ["text", "text_pair", "question", "context", "query", "documents", "source_sentence", "sentences", "x"]
ITEMS = TEXTS | OTHER | st.tuples(TEXTS, TEXTS)
INPUTS = (
    ITEMS
    | st.lists(ITEMS, max_size=3)
    | st.lists(st.lists(ITEMS, max_size=2), max_size=2)
    | st.dictionaries(st.sampled_from(NAMES), TEXTS | OTHER | st.lists(TEXTS | OTHER, max_size=3), max_size=3)
    | st.fixed_dictionaries({"question": TEXTS, "context": TEXTS})
    | st.fixed_dictionaries({"query": TEXTS, "documents": st.lists(TEXTS, max_size=3)})
    | st.fixed_dictionaries({"source_sentence": TEXTS, "sentences": st.lists(TEXTS, max_size=3)})
    | st.fixed_dictionaries({"text": TEXTS, "text_pair": TEXTS})
)
JSON = st.recursive(
    TEXTS | OTHER | st.sampled_from([10**30, math.nan, -1, "user", "assistant"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(0, 3), inner, max_size=3),
    max_leaves=6,
)
CONTENTS = TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})) | JSON
MESSAGES = (
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]) | TEXTS, "content": CONTENTS})
    | st.fixed_dictionaries({"role": TEXTS}, optional={"content": CONTENTS, "tool_calls": JSON, "x": JSON})
    | JSON
)
OBJECTS = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=3) | JSON},
    optional={"tools": JSON, "documents": JSON, "chat_template_kwargs": JSON, "x": JSON},
)
CONVERSATIONS = OBJECTS | st.lists(MESSAGES, max_size=3) | st.lists(OBJECTS | TEXTS, max_size=2)
SETTINGS = st.sampled_from(
    (
        *(None, True, False, 0, 1, 2, -1, 10**30, 0.5, -0.5, 1e300, math.nan, math.inf),
        *("", "x", "truncate", "none", "max", "en", "\ud800", "{}", "{0.x}", "{", b"x"),
        *([], ["x"], ["O", "the"], ("",), [3], {}, {"x": 1}, object(), len),
    )
)


@pytest.fixture(scope="module")
def tasks(sound: dict[str, Sound], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task[Any, Any]]:
    """All tasks, each with a small model."""
    root = tmp_path_factory.mktemp("human")

    def bert(name: str, *arguments: Any) -> Sound:
        return soundness.bert_of_labels(root / name, *arguments)

    models = {
        "sentence-embedding": sound["sentences"],
        "sentence-similarity": sound["sentences"],
        "feature-extraction": sound["labels"],
        "text-classification": sound["labels"],
        "zero-shot-classification": sound["labels"],
        "text-ranking": bert("rank", "SequenceClassification", ("one",)),
        "fill-mask": bert("mask", "MaskedLM"),
        "token-classification": bert("tokens", "TokenClassification", ("O", "B-x", "I-x")),
        "question-answering": bert("spans", "QuestionAnswering", ("a", "b")),
        "text-generation": sound["chat"],
        **dict.fromkeys(("text2text-generation", "summarization", "translation"), sound["t5"]),
    }
    assert set(models) == set(TASKS)
    limits: dict[str, Any] = {"max_new_tokens": 2}
    return {
        name: triform.pipeline(name, model.folder, **(limits if "max_new_tokens" in options_of(name) else {}))
        for name, model in models.items()
    }


def options_of(task: str) -> list[str]:
    return [option.name for option in fields(find_task(task).options_type)]


def example(task: Task[Any, Any]) -> Any:
    texts = {name: "the cat sat" if kind is str else ["a cat", "the [MASK]"] for name, kind in task.fields.items()}
    return texts or "the cat sat on the [MASK]"


def refused(call: Callable[[], Any]) -> str | None:
    """What an InputError says; None where there is an answer, which must be finite."""
    try:
        answer = call()
        answer = list(answer) if isinstance(answer, typing.Iterator) else answer
    except InputError as error:
        return str(error)
    assert is_finite(answer)
    return None


@pytest.mark.filterwarnings("ignore::triform.errors.TruncationWarning")
@pytest.mark.parametrize("name", list(TASKS))
def test_any_input(tasks: dict[str, Task[Any, Any]], name: str) -> None:
    @settings(settings.get_profile("damage"))
    @given(INPUTS, st.sampled_from(["error", "truncate"]))
    def attempt(inputs: Any, long_input: str) -> None:
        labels = {"candidate_labels": ["x"]} if name == "zero-shot-classification" else {}
        refused(lambda: tasks[name](inputs, long_input=long_input, **labels))

    attempt()


@pytest.mark.filterwarnings("ignore::triform.errors.TruncationWarning")
@pytest.mark.parametrize("name", list(TASKS))
def test_any_options(tasks: dict[str, Task[Any, Any]], name: str) -> None:
    @settings(settings.get_profile("damage"))
    @given(st.sampled_from(options_of(name)), SETTINGS)
    def attempt(option: str, value: Any) -> None:
        labels = {"candidate_labels": ["x"]} if name == "zero-shot-classification" else {}
        message = refused(lambda: tasks[name](example(tasks[name]), **{**labels, option: value}))
        assert message is None or option in message

    attempt()


@pytest.mark.filterwarnings("ignore::triform.errors.TruncationWarning")
def test_any_conversation(tasks: dict[str, Task[Any, Any]]) -> None:
    @settings(settings.get_profile("damage"), max_examples=settings.get_profile("damage").max_examples * 5)
    @given(CONVERSATIONS, st.booleans() | st.none())
    def attempt(conversation: Any, goes_on: bool | None) -> None:
        refused(lambda: tasks["text-generation"](conversation, continue_final_message=goes_on))

    attempt()


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(100_000), 10**5000], ids=["nested", "number"])
def test_a_conversation_beyond_json(tasks: dict[str, Task[Any, Any]], value: Any) -> None:
    message = {"role": "user", "content": "Hello", "x": value}
    with pytest.raises(InputError, match="is not JSON"):
        tasks["text-generation"]([message])


HUGE = 10**5000
"""Python refuses to write so long a number."""


@pytest.mark.parametrize("name", list(TASKS))
def test_a_number_that_cannot_be_written(tasks: dict[str, Task[Any, Any]], name: str) -> None:
    labels = {"candidate_labels": ["x"]} if name == "zero-shot-classification" else {}
    for inputs in (HUGE, [HUGE], {"text": HUGE}, dict.fromkeys(tasks[name].fields, HUGE)):
        assert refused(partial(tasks[name], inputs, **labels))
    for option in options_of(name):
        for value in (HUGE, -HUGE, [HUGE]):
            message = refused(partial(tasks[name], example(tasks[name]), **{**labels, option: value}))
            assert option in (message or "")
