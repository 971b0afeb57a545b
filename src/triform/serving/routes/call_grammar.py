"""The grammar of an answer that may hold calls of tools."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from triform.errors import InputError
from triform.generation import Grammar
from triform.generation.json_schema import check_schema
from triform.inputs import Tokenizer
from triform.serving.call import Call, first_error
from triform.serving.routes.generation_fields import wrong
from triform.serving.routes.grammars import ANY_OBJECT, Form, compiled
from triform.serving.routes.openai_tools import Tools
from triform.serving.routes.tool_calls import CallForm

MAX_SCHEMA_BYTES = 2**16
WHITE_SPACE = r"[ \n\r\t]{0,8}"
"""White space of JSON between two of its signs, as in grammars of a schema alone."""
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
JSON_RULES = {"whitespace_pattern": WHITE_SPACE, "lenient": False, "coerce_one_of": False}


def calls_grammar(call: Call, tokenizer: Tokenizer, form: Form | None, tools: Tools) -> Grammar | None:
    """Compile the grammar of an answer that is a call, or may have calls; None where they are only read afterwards.

    A tool that is not strict, and whose schema cannot be enforced, may get any object; and calls by tools that are too
    large together, none of them strict, are not enforced. The client is told so.

    Arguments:
        call: the call, for warnings.
        tokenizer: of the model.
        form: the form of an answer without calls; None for any text.
        tools: the tools.

    Raises:
        ApiError: naming the field.
    """
    own = tools.form
    if own is None or not tools.is_textual:
        if form is not None:
            raise wrong(form.place, "not together with tools for this model, whose calls cannot be told from text")
        return None
    if form is not None:
        _check_form(tokenizer, form)
    schemas = {name: function.get("parameters") or NO_ARGUMENTS for name, function in tools.callable.items()}
    for name in schemas:
        _keep_if_possible(call, tools, schemas, name, lambda schema: check_schema(schema, MAX_SCHEMA_BYTES))
    try:
        return compiled(tokenizer, "grammar", write_grammar(own, schemas, form, tools))
    except InputError:  # find the tools at fault
        for name in schemas:
            _keep_if_possible(call, tools, schemas, name, lambda schema: Grammar.of_json_schema(schema, tokenizer))
    try:
        return compiled(tokenizer, "grammar", write_grammar(own, schemas, form, tools))
    except InputError as error:
        is_strict = any(function.get("strict") for function in tools.callable.values())
        if tools.must_call or is_strict or form is not None:
            raise first_error("tools", error) from error
        call.warn(f"tools: calls are read, and not enforced. {error}")
        return None


def _check_form(tokenizer: Tokenizer, form: Form) -> None:
    try:
        compiled(tokenizer, form.kind, form.source)
    except InputError as error:
        raise first_error(form.place, error) from error


def _keep_if_possible(
    call: Call, tools: Tools, schemas: dict[str, Any], name: str, check: Callable[[Any], object]
) -> None:
    """Replace the schema of a tool that does not pass a check.

    Raises:
        ApiError: the tool is strict.
    """
    try:
        check(schemas[name])
    except InputError as error:
        if tools.callable[name].get("strict"):
            raise first_error(f"{tools.places[name]}.function.parameters", error) from error
        call.warn(f"tools: the arguments of {name} may be any object. {error}")
        schemas[name] = ANY_OBJECT


def write_grammar(own: CallForm, schemas: Mapping[str, Any], form: Form | None, tools: Tools) -> str:
    """Write the grammar of an answer in Lark.

    Arguments:
        own: the form of calls.
        schemas: name → schema of the arguments.
        form: the form of an answer without calls; None for any text.
        tools: how many calls there may be.
    """
    body = f"%json {json.dumps(_call_schema(own, schemas))}"
    if own.closing:
        body += f" WS {json.dumps(own.closing)}"
    rules = [f"WS: /{WHITE_SPACE}/"]
    opening = f"{json.dumps(own.opening)} WS" if own.opening else ""
    if tools.must_call:
        return "\n".join([f"start: {opening} {body}", *rules])
    answer = f"answer: {_written(form)}"
    if form is not None or not own.opening:
        # Text before a call would not be of the form; without an opening, text is what does not begin like JSON.
        call = f"call: {opening} {body}"
        many = "call" if tools.most == 1 or not own.opening else "call (WS call)*"
        return "\n".join([f"start: {many} | answer", call, answer, *rules])
    # A lazy head ends with the first opening in it, so from there on a call is written.
    head = f"head[lazy]: TEXT {json.dumps(own.opening)}"
    many = "call" if tools.most == 1 else "call+"
    return "\n".join([f"start: {many} TEXT | TEXT", head, f"call: head WS {body}", r"TEXT: /(.|\n)*/", *rules])


def _written(form: Form | None) -> str:
    """Write the rule of an answer without calls."""
    if form is None:
        return r"/([^{ \n\r\t](.|\n)*)?/"
    if form.kind == "json":
        schema = json.loads(form.source)
        return f"%json {json.dumps({**(schema if isinstance(schema, dict) else {}), 'x-guidance': JSON_RULES})}"
    if form.kind == "choice":
        return " | ".join(map(json.dumps, json.loads(form.source)))
    raise wrong(form.place, "together with tools expected a JSON schema or choices")


def _call_schema(own: CallForm, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Write the schema of a call: one of the tools, with its arguments.

    References within a schema begin at its own root, which is now a definition.
    """
    definitions = {}
    calls = []
    for number, (name, schema) in enumerate(schemas.items()):
        root = f"#/$defs/tool{number}"
        definitions[f"tool{number}"] = _moved({"type": "object", **schema}, root)
        properties = {"name": {"const": name}, own.arguments: {"$ref": root}}
        calls.append(
            {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        )
    return {"x-guidance": JSON_RULES, "$defs": definitions, "anyOf": calls}


def _moved(schema: Any, root: str) -> Any:
    """Copy a schema with its references moved to another root."""
    if isinstance(schema, dict):
        moved = {key: _moved(value, root) for key, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            moved["$ref"] = root + reference.removeprefix("#")
        return moved
    return [_moved(each, root) for each in schema] if isinstance(schema, list) else schema
