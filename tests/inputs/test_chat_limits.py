"""Chat templates of strangers: each ends soon and takes little memory, and the operations of the field still work."""

import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.inputs import chat_templates
from tests.inputs.hard_texts import write_json
from tests.inputs.test_chat import USER, ours, save_tokenizer
from triform.errors import InputError, TokenizerError
from triform.inputs.chat import template_language
from triform.inputs.chat.template import MAX_TEMPLATE, Chat
from triform.inputs.chat.template_language import compile_template, render

GROWING = "{% set ns = namespace(s=@) %}{% for i in range(99) %}{% set ns.s = ns.s # ns.s %}{% endfor %}"
DOUBLING = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}\
{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
NESTING = "{% set ns = namespace(a=(1,)) %}{% for i in range(999) %}{% set ns.a = (ns.a,) %}{% endfor %}"
ENDLESS = "{% for i in range(99999) %}" + "y" * 9999 + "{% endfor %}"

HOSTILE = {
    "lipsum": "{{ lipsum(n=100000000) }}",
    "sums of a list": "{{ ([range(99999)|list]*40000)|map('sum')|sum }}",
    "sum of lists": "{{ ([[1]]*100000)|sum(start=[]) }}",
    "slice": "{{ (messages|slice(2000000000)|list)|length }}",
    "wordwrap": "{{ ('a '*20000000)|wordwrap(1)|length }}",
    "groupby": "{{ ('ab'*20000000)|list|groupby('x')|length }}",
    "to_bytes": "{{ (1).to_bytes(3000000000,'big')|length }}",
    "batch": "{{ messages|batch(4*10**9,'x')|list }}",
    "replace": "{{ ('a'*10000)|replace('a','a'*10000)|length }}",
    "method replace": "{{ ('a'*10000).replace('a','a'*10000)|length }}",
    "indent of JSON": "{{ messages|tojson(indent=2*10**9) }}",
    "escapes of JSON": r"{{ (['\x00'*1000000]*9)|tojson|length }}",
    "indent": r"{{ ('a\n'*1000000)|indent(900)|length }}",
    "join": "{{ ([1]*100000)|join('x'*100000)|length }}",
    "method join": "{{ ('a'*10000).join(['b']*10000)|length }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent with a star": "{{ '%*d' % (1000000000, 1) }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format of a width": "{{ '{:{}}'.format(1, 1000000000) }}",
    "format of a list": "{{ '{a!r}'.format(a=['x'*1000000]*99)|length }}",
    "ljust": "{{ ''.ljust(10**9)|length }}",
    "split": "{{ ('a '*20000000).split()|length }}",
    "split at spaces of Unicode": r"{{ ('\u2003'*20000000).split()|length }}",
    "splitlines": r"{{ ('\u2028'*20000000).splitlines()|length }}",
    "doubled list as text": DOUBLING + "{{ ns.a|string|length }}",
    "doubled list as JSON": DOUBLING + "{{ ns.a|tojson|length }}",
    "doubled lists compared": DOUBLING + "{{ ns.a == ns.b }}",
    "doubled lists tested": DOUBLING + "{{ ns.a is eq ns.b }}",
    "doubled lists selected": DOUBLING + "{{ [ns.a]|select('equalto', ns.b)|list }}",
    "doubled lists counted": DOUBLING + "{{ [ns.a].count(ns.b) }}",
    "doubled lists sorted": DOUBLING + "{{ [ns.a, ns.b]|sort }}",
    "doubled lists changed": DOUBLING + "{% for i in [1, 2] %}{{ loop.changed(ns.a if i == 1 else ns.b) }}{% endfor %}",
    "deep key of a dictionary": NESTING + "{{ {ns.a: 1} }}",
    "deep key asked for": NESTING + "{{ messages[0].get(ns.a) }}",
    "deep index": NESTING + "{{ messages[0][ns.a] }}",
    "deep list without end": "{% set ns = namespace(a=[1]) %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% set ns.a = [ns.a] %}{% endfor %}{% endfor %}",
    "slices kept": "{% set x = 'x'*9000000 %}{% set ns = namespace(a=[]) %}{% for i in range(99999) %}"
    "{% set ns.a = ns.a + [x[1:]] %}{% endfor %}",
    "long texts compared": "{% set a = 'x'*9000000 ~ 'a' %}{% set b = 'x'*9000000 ~ 'b' %}{{ a in [b]*100000 }}",
    "strip": "{{ ('a'*9000000).strip('b'*5000000 ~ 'a') }}",
    "trim": "{{ ('a'*5000000)|trim('b'*5000000 ~ 'a') }}",
    "rfind": "{{ ('a'*9000000).rfind('b' ~ 'a'*1000000) }}",
    "set block": "{% set x %}" + ENDLESS + "{% endset %}",
    "macro": "{% macro f() %}" + ENDLESS + "{% endmacro %}{{ f() }}",
    "block": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "doubling with ~": GROWING.replace("@", "'x'").replace("#", "~"),
    "doubling with +": GROWING.replace("@", "'x'").replace("#", "+"),
    "doubling a list": GROWING.replace("@", "[1]").replace("#", "+"),
    "round": "{{ 5|round(-10**9) }}",
    "int": "{{ ('1'*9000000)|int }}",
    "int of base 16": "{{ ('f'*9000000)|int(base=16) }}",
    "keys": "{{ dict([(1,2)]*100000) }}",
    "unique": "{{ range(99999)|unique|list|length }}",
    "date": "{{ strftime_now('%Y'*1000000) }}",
    "autoescape": "{% autoescape true %}{{ '<'*10000000 }}{% endautoescape %}",
    "escape": "{{ ('<'*10000000)|e|length }}",
    "text of a namespace": DOUBLING + "{{ ns }}",
    "hidden filter": "{{ messages|map(' list')|list }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_language, "MOST_SECONDS", 0.3)
    tracemalloc.start()
    begin = time.thread_time()
    try:
        with pytest.raises(TokenizerError, match=r"^here\.jinja"):
            render(compile_template(HOSTILE[name], "here.jinja"), {"messages": [USER]}, "here.jinja")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.thread_time() - begin < 3
    assert peak < 200 * 2**20


@pytest.mark.parametrize(
    "expression",
    [
        "messages|length ~ messages|count",
        "messages[0].content|trim|upper|lower|title|capitalize",
        "messages|map(attribute='role')|list|join(', ')",
        "messages|join(' / ', attribute='role')",
        "messages|selectattr('role', 'equalto', 'user')|list|tojson",
        "messages|selectattr('role', 'in', ['user', 'tool'])|map(attribute='content')|first",
        "messages|rejectattr('role', 'eq', 'system')|list|last|tojson(indent=2)",
        "messages|selectattr('tool_calls', 'defined')|list|length",
        "[3, 1, 2]|sort|string ~ [3, 1]|max ~ [3, 1]|min ~ [1, 2, 3]|sum",
        "[1, 1, 2]|unique|list ~ [1, 2]|reverse|list",
        "[1, 2, 3, 4]|select('odd')|list ~ [1, 2]|reject('gt', 1)|list",
        "{'b': 1, 'a': 2}|dictsort ~ {'a': 1}|items|list",
        "messages|groupby('role')",
        "tools|tojson(ensure_ascii=False, separators=(',', ':'), sort_keys=True) if tools is defined else 'x'",
        "messages[0].content|replace('l', 'L')|replace('o', '0', 1)",
        "messages[0].content.replace('l', 'L').split('L')[0].rstrip('e').lstrip().strip('H')",
        "'a b  c'.split() ~ 'a-b-c'.rsplit('-', 1) ~ 'a-b'.partition('-') ~ 'a-b-c'.rpartition('-')",
        "'a\\nb'.splitlines()",
        "'abc'.startswith(('x', 'a')) ~ 'abc'.endswith('c') ~ 'abc'.find('c') ~ 'abcb'.rfind('b') ~ 'abcb'.count('b')",
        "'abc'.removeprefix('a').removesuffix('c') ~ 'a'.ljust(3) ~ 'a'.rjust(3) ~ 'a'.center(3) ~ '7'.zfill(3)",
        "'12'.isdigit() ~ 'a'.isalpha() ~ ' '.isspace() ~ ', '.join(['a', 'b'])",
        "'{} and {x:>5} {x!r}'.format('a', x=3) ~ '%s has %05.2f' % ('a', 2.5) ~ '%s, %s'|format('a', 'b')",
        "'a\\nb'|indent(2) ~ 'a\\nb'|indent(2, true)",
        "messages[0].get('name', 'none') ~ messages[0].items()|list ~ messages[0].keys()|list",
        "messages[0].values()|list",
        "messages[0]['role'] == 'user' and 'content' in messages[0] and messages[0] != messages[-1]",
        "(messages[0].content is string) ~ (messages is iterable) ~ (messages[0] is mapping) ~ (none is none)",
        "(true is sameas true) ~ (3 is divisibleby 3) ~ (1 is number) ~ (messages is sequence)",
        "nothing is undefined",
        "messages[1:]|list ~ messages[::-1]|length ~ 'abc'[:-1] ~ (1, 2)[1]",
        "dict(a=1, b=2) ~ range(3)|list ~ namespace(a=1).a ~ cycler('a', 'b').next() ~ joiner(', ')()",
        "(7 // 2) ~ 7 % 4 ~ 2 ** 10 ~ (-3)|abs ~ 2.567|round(1) ~ '3'|int ~ '3.5'|float",
        "7 / 2 ~ 'ab' * 2 ~ ([1] + [2])",
        "nothing|default('x') ~ ''|default('y', true) ~ nothing|d('z') ~ none ~ true ~ 1.5",
        "'<b>'|e ~ '<b>'|escape ~ '<b>'|safe ~ ('<b>'|safe + '<i>') ~ messages[0].content|truncate(3)",
        "(messages|map('tojson')|list)[0] ~ [[1, 2], [3]]|map('length')|list ~ ['a', 'b']|map('upper')|join",
        "messages[0].content.upper().lower().title().capitalize().swapcase().casefold()",
    ],
)
def test_operations_of_the_field(expression: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, "{{ " + expression + " }}")
    messages = [USER, {"role": "assistant", "content": "Hi <there>"}, {"role": "user", "content": "élan"}]
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours(folder)[1].render(Chat.read(messages)).text == expected


def test_a_long_conversation_may_be_copied(tmp_path: Path) -> None:
    """The budget grows with the conversation: a template that joins all messages copies the text many times."""
    source = (
        "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = ns.text + m.content %}{% endfor %}"
    )
    save_tokenizer(tmp_path, source + "{{ ns.text|length }}")
    messages = [{"role": "user", "content": "word " * 20_000}] * 40
    assert ours(tmp_path)[1].render(Chat.read(messages)).text == "4000000"


def test_every_character_for_private_use(tmp_path: Path) -> None:
    _, template = ours(save_tokenizer(tmp_path, chat_templates.CHAT_ML))
    plane_15 = "".join(map(chr, range(0xF0000, 0xFFFFE)))
    assert plane_15 in template.render(Chat.read([{"role": "user", "content": plane_15}])).text
    everything = "".join(map(chr, range(0xE000, 0x110000)))
    with pytest.raises(InputError, match="holds every character for private use"):
        template.render(Chat.read([{"role": "user", "content": everything}]))


def test_the_file_of_a_template_is_small_and_regular(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, None)
    with open(tmp_path / "chat_template.jinja", "wb") as file:
        file.truncate(2**31)
    with pytest.raises(
        TokenizerError, match=f"chat_template.jinja: a chat template of 2,147,483,648 bytes.*{MAX_TEMPLATE:,}"
    ):
        ours(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    write_json(tmp_path / "chat_template.json", {"chat_template": "x" * (MAX_TEMPLATE + 1)})
    with pytest.raises(TokenizerError, match=r"chat_template\.json: a chat template of 131,073 bytes"):
        ours(tmp_path)
    (tmp_path / "additional_chat_templates").mkdir()
    os.mkfifo(tmp_path / "additional_chat_templates" / "default.jinja")
    with pytest.raises(TokenizerError, match=r"default\.jinja is not a regular file"):
        ours(tmp_path)


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning", "all", "null"])
@pytest.mark.parametrize("read", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_the_names_of_transformers(name: str, read: str, tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path, "{% for m in messages %}<{{ m." + read + " }}>{{ m.content }}{% endfor %}")
    named: dict[str, dict[str, Any]] = {
        "all": {"reasoning": "c", "thinking": "b", "reasoning_content": "a"},
        "null": {"reasoning": "c", "reasoning_content": None},
    }
    messages = [USER, {"role": "assistant", "content": "4", **named.get(name, {name: "why"})}, USER]
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours(folder)[1].render(Chat.read(messages)).text == expected
