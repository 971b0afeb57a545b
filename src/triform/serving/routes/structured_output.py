"""The fields that give an answer a form → its grammar: a JSON Schema, a pattern, choices, or calls of tools."""

import json
from collections.abc import Mapping
from typing import Any

from triform.errors import InputError
from triform.generation import Grammar
from triform.inputs import Tokenizer
from triform.serving.call import Call, first_error
from triform.serving.routes.call_grammar import calls_grammar
from triform.serving.routes.generation_fields import wrong
from triform.serving.routes.grammars import ANY_OBJECT, Form, compiled
from triform.serving.routes.openai_tools import Tools

COMPILING = 10**6
"""Characters that take as long to tokenize as a grammar to compile: it is never compiled on the event loop."""


def response_form(given: Mapping[str, Any] | None, outputs: Mapping[str, Any] | None) -> Form | None:
    """Read `response_format` and `structured_outputs`; None for any text. The forms of several clients are read.

    Raises:
        ApiError: naming the field.
    """
    if given is not None and outputs is not None:
        raise wrong("structured_outputs", "expected without response_format. Set one of them")
    if outputs is not None:
        return _of_outputs({name: value for name, value in outputs.items() if value is not None})
    if given is None:
        return None
    kind = given.get("type")
    own = given.get("schema", given.get("value"))
    match kind:
        case "text":
            return None
        case "json_object" | "json":
            return _json("response_format", ANY_OBJECT if own is None else own)
        case "json_schema":
            inner = given.get("json_schema", given)
            if not isinstance(inner, dict) or inner.get("schema") is None:
                raise wrong("response_format.json_schema.schema", "expected a JSON schema, an object")
            return _json("response_format.json_schema.schema", inner["schema"])
        case "regex":
            if not isinstance(own, str):
                raise wrong("response_format.value", "expected a regular expression, a text")
            return Form("regex", own, "response_format")
    raise wrong("response_format.type", "expected text, json_object, json_schema or regex")


def _of_outputs(outputs: Mapping[str, Any]) -> Form:
    kinds = {"json", "regex", "choice", "grammar", "json_object"}
    if len(outputs) != 1 or not set(outputs) <= kinds:
        raise wrong("structured_outputs", f"expected one of {', '.join(sorted(kinds))}")
    [(kind, value)] = outputs.items()
    place = f"structured_outputs.{kind}"
    match kind:
        case "json":
            return _json(place, value)
        case "json_object":
            return _json(place, ANY_OBJECT)
        case "choice":
            if not isinstance(value, list):
                raise wrong(place, "expected a list of texts")
            return Form("choice", json.dumps(value), place)
    if not isinstance(value, str):
        raise wrong(place, "expected a text")
    return Form(kind, value, place)


def _json(place: str, schema: Any) -> Form:
    try:
        read = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(read, dict | bool):
            raise wrong(place, "expected a JSON schema, an object")
        return Form("json", json.dumps(read), place)
    except (ValueError, RecursionError) as error:
        raise wrong(place, f"expected a JSON schema: {error}") from error


async def find_grammar(call: Call, tokenizer: Tokenizer, form: Form | None, tools: Tools | None) -> Grammar | None:
    """Compile the grammar of an answer: of its form, of calls, or of either; None for any text.

    Raises:
        ApiError: a form that cannot be enforced whole, naming the keyword; others as in `calls_grammar`.
    """
    if tools is None and form is None:
        return None

    def compile() -> Grammar | None:
        if tools is not None:
            return calls_grammar(call, tokenizer, form, tools)
        assert form is not None
        try:
            return compiled(tokenizer, form.kind, form.source)
        except InputError as error:
            raise first_error(form.place, error) from error

    return await call.in_pool(compile, COMPILING)
