"""The options schema and regex of text-generation, in Python and on the command line."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import triform
from tests.generation.schemas import make_model
from triform.cli.main import app
from triform.errors import InputError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo , N"]}, "degrees": {"type": "integer", "minimum": 0, "maximum": 40}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
SAMPLED: dict[str, Any] = {"do_sample": True, "seed": 2, "max_new_tokens": 100, "return_full_text": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_model(path, "gpt2")
    return path


@pytest.fixture(scope="module")
def write(folder: Path) -> Any:
    return triform.pipeline("text-generation", model=folder, **SAMPLED)


def test_answers_follow_a_schema_or_a_pattern(write: Any) -> None:
    for [answer] in write(["the cat", "a text", "x"], schema=SCHEMA):
        jsonschema.validate(json.loads(answer["generated_text"]), SCHEMA)
    for answer in write("the cat", regex="[a-c]{3} [0-9]", num_return_sequences=4):
        assert re.fullmatch("[a-c]{3} [0-9]", answer["generated_text"])
    [whole] = write("the cat", schema=SCHEMA, return_full_text=True, details=True)
    assert whole["finish_reason"] == "stop"
    jsonschema.validate(json.loads(whole["generated_text"].removeprefix("the cat")), SCHEMA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": SCHEMA, "regex": "a"}, "schema, regex: an answer follows one of them"),
        ({"schema": {"not": {}}}, "schema: not cannot be enforced"),
        ({"schema": "object"}, "schema='object': expected an object or None"),
        ({"regex": "("}, "regex: .*unclosed group"),
        ({"regex": 3}, "regex=3: expected a text or None"),
        ({"regex": "a", "num_beams": 2, "do_sample": False}, "num_beams=2: beams cannot follow a grammar"),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused_before_the_first_token(
    write: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write("the cat", **options)


@pytest.mark.parametrize("form", ["text", "file"])
def test_a_schema_on_the_command_line(folder: Path, form: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    given = str(path) if form == "file" else json.dumps(SCHEMA)
    sampled = ["--do-sample", "--seed", "2", "--max-new-tokens", "100", "--no-return-full-text", "--model", str(folder)]
    done = CliRunner().invoke(app, ["run", "text-generation", "the cat", "--schema", given, *sampled, "--json"])
    assert done.exit_code == 0, done.output
    [[answer]] = [json.loads(line) for line in done.stdout.splitlines()]
    jsonschema.validate(json.loads(answer["generated_text"]), SCHEMA)
    done = CliRunner().invoke(app, ["run", "text-generation", "the cat", "--regex", "[xy]{4}", *sampled])
    assert re.fullmatch("[xy]{4}", done.stdout.strip())


@pytest.mark.parametrize(
    ("given", "message"), [("missing.json", "is not JSON"), ("[1]", "expected a JSON object"), ("{", "is not JSON")]
)
def test_a_schema_that_is_none_on_the_command_line(folder: Path, given: str, message: str) -> None:
    done = CliRunner().invoke(app, ["run", "text-generation", "x", "--schema", given, "--model", str(folder)])
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
