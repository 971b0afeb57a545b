"""Answers of a given form, as several clients ask for them, of a model with random weights."""

import json
import re
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

from tests.serving.harness import Running

MODEL = "org/chat"
MESSAGES: Any = [{"role": "user", "content": "Hello!"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "🐈"]}, "fine": {"type": "boolean"}},
    "required": ["kind", "fine"],
    "additionalProperties": False,
}


class Animal(pydantic.BaseModel):
    """A form whose answers are short, whatever the model writes."""

    kind: Literal["cat", "🐈"]
    fine: bool


def is_animal(text: str) -> bool:
    """Check a text against the schema."""
    return list(json.loads(text)) == ["kind", "fine"]


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
        {"type": "json_object", "value": SCHEMA},
        {"type": "json_object", "schema": SCHEMA},
        {"type": "json", "value": SCHEMA},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("seed", [1, 2])
def test_schemas_are_followed(client: openai.OpenAI, form: Any, seed: int) -> None:
    request: Any = {"model": MODEL, "messages": MESSAGES, "seed": seed, "temperature": 1.5, "response_format": form}
    answer = client.chat.completions.create(**request).choices[0]
    assert answer.finish_reason == "stop"
    assert is_animal(answer.message.content)
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**request, stream=True)]
    assert "".join(pieces) == answer.message.content


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        ({"json": SCHEMA}, r"\s*\{.*\}"),
        ({"json": json.dumps(SCHEMA)}, r"\s*\{.*\}"),
        ({"regex": "[a-c]{3,5}猫"}, "[a-c]{3,5}猫"),
        ({"choice": ["red", "green 🌧"]}, "red|green 🌧"),
        ({"grammar": 'start: "ab" "c"+ "."'}, r"abc+\."),
    ],
    ids=str,
)
def test_other_forms_are_followed(client: openai.OpenAI, outputs: Any, pattern: str) -> None:
    extra = {"structured_outputs": outputs}
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=1, seed=1, extra_body=extra)
    assert answer.choices[0].finish_reason == "stop"
    assert re.fullmatch(pattern, answer.choices[0].message.content, re.DOTALL)
    text = client.completions.create(model=MODEL, prompt="a", max_tokens=100, temperature=1, extra_body=extra)
    assert re.fullmatch(pattern, text.choices[0].text, re.DOTALL)


def test_regex_of_text_generation_inference(client: openai.OpenAI) -> None:
    form: Any = {"type": "regex", "value": "x{2}"}
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=form)
    assert answer.choices[0].message.content == "xx"


def test_parse_of_the_client(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Animal, temperature=1, seed=1
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, response_format=Animal) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Animal)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Animal, max_tokens=2)
    response = client.responses.parse(model=MODEL, input="Hello!", text_format=Animal)
    assert isinstance(response.output_parsed, Animal)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain(chat_server: Running, method: Any) -> None:
    chat = ChatOpenAI(base_url=f"{chat_server.url}/v1", api_key="none", model="tools", max_retries=0, seed=1)
    assert isinstance(chat.with_structured_output(Animal, method=method, strict=True).invoke("Hello!"), Animal)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "expected"),
    ({"response_format": {"type": "json_schema", "schema": 3}}, "response_format.json_schema.schema", "expected"),
    ({"response_format": {"type": "json_object", "schema": {"not": {}}}}, "response_format", "not"),
    ({"response_format": {"type": "json_object", "schema": {"uniqueItems": True}}}, "response_format", "uniqueItems"),
    ({"response_format": {"type": "regex", "value": "(?=a)"}}, "response_format", "look-around"),
    ({"response_format": {"type": "regex", "value": 3}}, "response_format.value", "expected"),
    ({"structured_outputs": {}}, "structured_outputs", "expected one of"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "expected"),
    ({"structured_outputs": {"choice": "a"}}, "structured_outputs.choice", "list"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "one or more"),
    ({"structured_outputs": {"grammar": "start: ("}}, "structured_outputs.grammar", "grammar"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "text"}}, "structured_outputs", "without"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_forms_that_cannot_be_enforced_are_named(
    chat_server: Running, body: dict[str, Any], param: str, words: str
) -> None:
    for stream in ({}, {"stream": True}):
        whole = {"model": MODEL, "messages": MESSAGES, **body, **stream}
        answer = httpx.post(f"{chat_server.url}/v1/chat/completions", json=whole)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param
        assert words in answer.json()["error"]["message"]
