"""Tasks against pipelines missing from `transformers` 5: golden answers of 4.x, kept in `tests/goldens`."""

import json
from pathlib import Path
from typing import Any

import pytest

import triform
from tests.goldens.cases import CASES, Case
from tests.tasks.test_pipelines import assert_same

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.task}-{case.name}")
def test_equals_the_pipeline_of_transformers_4(minilm: Path, tmp_path: Path, case: Case) -> None:
    stored = json.loads((GOLDENS / f"{case.task}.json").read_text(encoding="utf-8"))
    assert stored["versions"]["transformers"].startswith("4.")
    [expected] = [one["answers"] for one in stored["cases"] if one["case"] == case.name]
    ours = triform.pipeline(case.task, model=case.make(tmp_path, minilm))
    assert len(expected) == len(case.options)
    for options, answers in zip(case.options, expected, strict=True):
        assert len(answers) == len(case.inputs)
        for given, answer in zip(case.inputs, answers, strict=True):
            is_span = case.task == "question-answering"
            assert_same(ours(given, **options), real_answers(answer, options) if is_span else answer)


def real_answers(answer: Any, options: dict[str, Any]) -> Any:
    """Drop the filler spans of score 0 from the answers of the pipeline; a list if `top_k` is above 1.

    If a context has fewer answers than `top_k`, the pipeline fills up with spans of score 0: of tokens outside
    the context, ends before their starts, and spans longer than `max_answer_len`.
    """
    if options.get("top_k", 1) == 1:
        return answer
    found = answer if isinstance(answer, list) else [answer]
    return [one for one in found if one["score"] > 0]
