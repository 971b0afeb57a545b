"""Calls of tools told from text: the form that a template writes, and the same calls for every cut into pieces."""

import json
import random
from pathlib import Path

import pytest
import transformers

from tests.checkpoints import llama
from tests.serving.scripted import TOOL_TEMPLATE
from triform.generation import FinishReason, GeneratedToken
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.inputs.chat.template import ChatTemplate
from triform.serving.routes.generated_text import GeneratedText
from triform.serving.routes.tool_calls import CallForm, ToolCallReader, find_form

TAGS = CallForm("<tool_call>", "</tool_call>")
TURNS = """{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>
{%- if message.tool_calls %}%CALLS%{% else %}{{ message.content }}{% endif %}</s>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{# tools #}"""
LIST = """<calls>[{% for call in message.tool_calls %}{{
    {"name": call.function.name, "arguments": call.function.arguments, "id": call.id} | tojson
}}{% endfor %}]"""
BARE = """{{ {"name": message.tool_calls[0].function.name, "parameters": message.tool_calls[0].function.arguments}
| tojson }}"""
OTHER = """<call:{{ message.tool_calls[0].function.name }}>"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint with <calls> among its special tokens."""
    folder = llama("LlamaForCausalLM", tmp_path_factory.mktemp("tools") / "model", TOOL_TEMPLATE)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<calls>"]})
    tokenizer.save_pretrained(folder)
    return folder


def form_of(checkpoint: Path, template: str) -> CallForm | None:
    files = find_checkpoint(checkpoint)
    tokenizer = Tokenizer.from_checkpoint(files)
    return find_form(ChatTemplate({"default": template}, "a template", tokenizer), frozenset(tokenizer.special_tokens))


def test_forms_are_found(checkpoint: Path) -> None:
    assert form_of(checkpoint, TOOL_TEMPLATE) == TAGS
    assert form_of(checkpoint, TURNS.replace("%CALLS%", LIST)) == CallForm("<calls>", "")
    assert form_of(checkpoint, TURNS.replace("%CALLS%", BARE)) == CallForm("", "", "parameters")
    assert form_of(checkpoint, TURNS.replace("%CALLS%", OTHER)) is None
    assert form_of(checkpoint, "{{ raise_exception('never') }}") is None


CASES = [
    (TAGS, 'Hi <tool_call>\n{"name": "a", "arguments": {"x": "}"}}\n</tool_call>', "Hi ", [("a", {"x": "}"})]),
    (TAGS, '<tool_call>{"name": "a", "arguments": "{}"}</tool_call> ok [1] <', "ok [1] <", [("a", {})]),
    (TAGS, '<tool_call>{"name": "a"}\n</tool_call>\n<tool_call>{"name": "b"}', "", [("a", {}), ("b", {})]),
    (TAGS, '<tool_call>{"name": "c", "arguments": {}}</tool_call>', None, []),
    (TAGS, '<tool_call>{"name": "a", "arguments": [1]}', None, []),
    (TAGS, "<tool_call>", None, []),
    (TAGS, "<tool", None, []),
    (TAGS, '{"name": "a", "arguments": {}}', None, []),
    (CallForm("<calls>", ""), '<calls>[{"name": "a"}, {"name": "b", "arguments": {}}]', "", [("a", {}), ("b", {})]),
    (CallForm("", "", "parameters"), '\n{"name": "a", "parameters": {"x": [1, "猫"]}}', "", [("a", {"x": [1, "猫"]})]),
    (CallForm("", "", "parameters"), "No {call}", None, []),
    (CallForm("", "", "parameters"), '{"other": 1}', None, []),
    (CallForm("", "", "parameters"), '{"name": "a", "parameters": {"x": NaN}}', None, []),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), CASES)
def test_every_cut_gives_the_same(
    form: CallForm, text: str, content: str | None, calls: list[tuple[str, object]]
) -> None:
    chosen = random.Random(1)
    for length in (1, 2, 3, 5, len(text)):
        reader = ToolCallReader(form=form, names={"a", "b"})
        pieces: list[str] = []
        rest = text
        while rest:
            size = chosen.randint(1, length)
            pieces, rest = [*pieces, rest[:size]], rest[size:]
        found = [reader.add(piece) for piece in pieces] + [reader.add("", is_end=True)]
        assert "".join(each for each, _ in found) == (text if content is None else content)
        assert [(call.name, json.loads(call.arguments)) for _, own in found for call in own] == calls


def test_special_token_before_a_call_is_shown(checkpoint: Path) -> None:
    tokenizer = Tokenizer.from_checkpoint(find_checkpoint(checkpoint))
    ids = tokenizer.encode_rendered('Hi <calls>[{"name": "猫"}]</s>').ids.tolist()
    for shown, expected in ((["<calls>"], 'Hi <calls>[{"name": "猫"}]'), ([], 'Hi [{"name": "猫"}]')):
        text = GeneratedText(tokenizer=tokenizer, shown=shown, end_tokens=(ids[-1],))
        for number, id in enumerate(ids):
            is_last = number == len(ids) - 1
            text.add(GeneratedToken(0, id, -1.0, FinishReason.STOP if is_last else None))
        assert text.text == expected
        assert "".join(token.text for token in text.take_tokens()) == expected
