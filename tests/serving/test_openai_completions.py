"""Completions by the official client, against the pipeline, and with bad input."""

from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.serving.harness import Running
from triform.inputs import Batch

MODEL = "story"
PROMPTS = ["Once upon a time", "There was a small house"]


def pipeline(server: Running, prompt: str, **options: Any) -> Any:
    """Continue a prompt by the pipeline."""
    return server.registry.models[MODEL].task("text-generation")(
        prompt, return_full_text=False, **{"do_sample": False, **options}
    )


def test_texts_are_the_pipelines(chat_server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPTS, temperature=0, max_tokens=12)
    expected = [pipeline(chat_server, prompt, max_new_tokens=12)[0]["generated_text"] for prompt in PROMPTS]
    assert [choice.text for choice in answer.choices] == expected
    one = client.completions.create(model=MODEL, prompt=PROMPTS[0], temperature=0)
    assert one.usage.completion_tokens == 16


def test_choices_count_through_the_prompts(chat_server: Running, client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=PROMPTS, n=2, temperature=1.5, seed=1, max_tokens=6, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    options = {"do_sample": True, "temperature": 1.5, "seed": 1, "max_new_tokens": 6, "num_return_sequences": 2}
    expected = [
        prompt + each["generated_text"] for prompt in PROMPTS for each in pipeline(chat_server, prompt, **options)
    ]
    assert [choice.text for choice in answer.choices] == expected


def test_ids_are_used_as_given(chat_server: Running, client: openai.OpenAI) -> None:
    task: Any = chat_server.registry.models[MODEL].task("text-generation")
    ids = task.tokenizer.encode([PROMPTS[0]])[0].ids.tolist()[1:]
    answer = client.completions.create(model=MODEL, prompt=ids, temperature=0, max_tokens=8)
    [expected] = task.model.generate(Batch.from_ids([ids]), max_new_tokens=8, do_sample=False)
    assert answer.choices[0].text == task.tokenizer.decode([*ids, *expected])[len(task.tokenizer.decode(ids)) :]
    assert answer.usage.prompt_tokens == len(ids)
    two = client.completions.create(model=MODEL, prompt=[ids, ids[1:]], temperature=0, max_tokens=8)
    assert two.choices[0].text == answer.choices[0].text


@pytest.mark.parametrize("options", [{}, {"echo": True}, {"echo": True, "logprobs": 2}, {"n": 2, "logprobs": 0}])
def test_stream_is_the_whole_answer(client: openai.OpenAI, options: dict[str, Any]) -> None:
    request = {
        "model": MODEL,
        "prompt": PROMPTS,
        "temperature": 1,
        "seed": 2,
        "max_tokens": 20,
        "stop": " a",
        **options,
    }
    whole: Any = client.completions.create(**request)
    *chunks, last = client.completions.create(**request, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == whole.usage.model_copy(update={"prompt_tokens_details": last.usage.prompt_tokens_details})
    for choice in whole.choices:
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(each.text for each in own) == choice.text
        assert all(each.text for each in own[:-1])
        assert own[-1].finish_reason == choice.finish_reason
        if choice.logprobs is not None:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                joined = [value for each in own for value in getattr(each.logprobs, name)]
                assert joined == getattr(choice.logprobs, name)


def test_continuous_usage(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(client.completions.create(model=MODEL, prompt="Once", stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage is not None]
    assert len(counts) == len(chunks)
    assert counts == sorted(counts)


def test_prompts_are_scored_as_harnesses_ask(chat_server: Running, client: openai.OpenAI) -> None:
    """The log-probabilities of prompt and answer are those of one forward pass."""
    task: Any = chat_server.registry.models[MODEL].task("text-generation")
    ids = task.tokenizer.encode(["Once upon a time there was a cat"])[0].ids.tolist()
    answer = client.completions.create(model=MODEL, prompt=[ids], max_tokens=1, temperature=0, logprobs=1, echo=True)
    scored = answer.choices[0].logprobs
    assert len(scored.token_logprobs) == len(ids) + 1
    [expected] = task.model.score(Batch.from_ids([ids]), num_alternatives=1)
    assert scored.token_logprobs[: len(ids)] == expected.log_probabilities
    assert scored.token_logprobs[0] is None
    assert scored.top_logprobs[0] is None
    logits = task.model(Batch.from_ids([ids])).logits
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    reference = [float(row[id]) for row, id in zip(log_probabilities, ids[1:], strict=False)]
    assert np.allclose(np.array(scored.token_logprobs[1 : len(ids)], float), reference, atol=1e-4)
    text = answer.choices[0].text
    for name, offset in zip(scored.tokens, scored.text_offset, strict=True):
        assert text[offset:].startswith(name) or name.startswith("<")
    for value, best in zip(scored.token_logprobs[1:], scored.top_logprobs[1:], strict=True):
        assert value in best.values()
        assert len(best) in (1, 2)
    only = client.completions.create(model=MODEL, prompt=[ids], max_tokens=0, logprobs=1, echo=True).choices[0]
    assert only.logprobs.token_logprobs == scored.token_logprobs[: len(ids)]
    assert only.finish_reason == "length"


def test_no_new_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPTS, max_tokens=0, echo=True)
    assert [choice.text for choice in answer.choices] == PROMPTS
    assert answer.usage.completion_tokens == 0
    chunks = list(client.completions.create(model=MODEL, prompt="Once", max_tokens=0, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == ["length"]


WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [1.5]}, None),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": [1, -1]}, "prompt[1]"),
    ({"prompt": [[1], [10**9]]}, "prompt[1][0]"),
    ({"prompt": [1] * 1000}, "prompt"),
    ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "best_of": 2}, "best_of"),
    ({"prompt": "a", "logprobs": 21}, "logprobs"),
    ({"prompt": "a", "logprobs": True}, "logprobs"),
    ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
    ({"prompt": "a", "max_tokens": 10**9}, "max_tokens"),
    ({"prompt": "a", "shape": "round"}, "shape"),
    ({"prompt": "word " * 2000}, None),
    ({"prompt": ["a"] * 3000}, "prompt"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_bad_input_is_named(
    chat_server: Running, client: openai.OpenAI, body: dict[str, Any], param: str | None
) -> None:
    for stream in ({}, {"stream": True}):
        answer = httpx.post(f"{chat_server.url}/v1/completions", json={"model": MODEL, **body, **stream})
        assert answer.status_code == 400, answer.text
        assert param is None or answer.json()["error"]["param"] == param
    assert client.completions.create(model=MODEL, prompt="Once", max_tokens=1).choices


def test_many_answers_are_bounded(chat_server: Running) -> None:
    body = {"model": MODEL, "prompt": ["a"] * 2000, "max_tokens": 400}
    answer = httpx.post(f"{chat_server.url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_many_tokens"
    answer = httpx.post(f"{chat_server.url}/v1/completions", json={**body, "n": 128})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"
