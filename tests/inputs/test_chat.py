"""Conversations rendered and encoded as by transformers, the guard against special tokens in content, and faults."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inputs import chat_templates
from tests.inputs.hard_texts import TEXTS, write_json
from triform.errors import InputError, TokenizerError, TriformError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.inputs.chat import template_language
from triform.inputs.chat.template import Chat, ChatTemplate
from triform.inputs.chat.template_language import LONGEST, compile_template, render

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a <place>, & 'when': \"now\" — 猫.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
USER = {"role": "user", "content": "Hello!"}


def save_tokenizer(folder: Path, template: Any, *, space_before: bool = False) -> Path:
    """Save a byte-level or a space-prepending tokenizer, with special tokens of several models."""
    if space_before:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        byte_tokens = [f"<0x{number:02X}>" for number in range(256)]
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=500, special_tokens=["<unk>", *byte_tokens, *SPECIAL], show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    tokenizer.train_from_iterator([*TEXTS, *SPECIAL], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[2:],
        chat_template=template,
    )
    fast.save_pretrained(folder)
    return folder


def ours(folder: Path) -> tuple[Tokenizer, ChatTemplate]:
    tokenizer = Tokenizer.from_checkpoint(find_checkpoint(folder))
    return tokenizer, ChatTemplate.from_checkpoint(find_checkpoint(folder), tokenizer)


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Tokenizer, ChatTemplate, Any]]:
    """Return Triform's tokenizer and template of a kind, and the tokenizer of transformers."""

    @functools.cache
    def of(name: str, space_before: bool = False) -> tuple[Tokenizer, ChatTemplate, Any]:
        folder = save_tokenizer(tmp_path_factory.mktemp(name), chat_templates.ALL[name], space_before=space_before)
        return *ours(folder), transformers.AutoTokenizer.from_pretrained(folder)

    return of


words = st.one_of(st.sampled_from(TEXTS), st.text(max_size=30), st.just("<think>\nwhy\n</think>\n\nso"))
words = words.filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text))


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw an optional system message, then user and assistant in turn, with tool calls now and then."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages.append({"role": "user", "content": draw(words)})
        if draw(st.booleans()):
            call = {"type": "function", "function": {"name": "weather", "arguments": {"place": draw(words)}}}
            messages.append({"role": "assistant", "content": draw(st.sampled_from(["", None])), "tool_calls": [call]})
            messages.append({"role": "tool", "content": draw(words)})
        messages.append({"role": "assistant", "content": draw(words), "tool_calls": None})
    return [*messages, {"role": "user", "content": draw(words)}]


@pytest.mark.parametrize("name", chat_templates.ALL)
@settings(max_examples=25, deadline=None)
@given(
    messages=conversations(),
    tools=st.sampled_from([None, [TOOL], [TOOL, TOOL]]),
    variables=st.sampled_from([{}, {"enable_thinking": False}, {"enable_thinking": True}]),
)
def test_rendered_and_encoded_as_transformers_does(
    both: Any, name: str, messages: list[dict[str, Any]], tools: Any, variables: dict[str, Any]
) -> None:
    tokenizer, template, reference = both(name)
    fields = {"messages": messages, "tools": tools, "chat_template_kwargs": variables}
    options = {"tools": tools, "add_generation_prompt": True, **variables}
    try:
        expected = reference.apply_chat_template(messages, tokenize=False, **options)
    except jinja2.TemplateError:
        with pytest.raises(TriformError):
            template.render(Chat.read(fields))
        return
    prompt = template.render(Chat.read(fields))
    assert prompt.text == expected
    assert prompt.spelled == ()
    ids = reference.apply_chat_template(messages, **options)["input_ids"]
    assert tokenizer.encode_rendered(prompt.text).ids.tolist() == ids


@pytest.mark.parametrize("name", ["llama-3", "chat-ml", "with-tools", "mistral"])
@pytest.mark.parametrize("last", ["Once upon", "Once upon  \n", " x"])
def test_the_last_message_goes_on(both: Any, name: str, last: str) -> None:
    _, template, reference = both(name)
    messages = [USER, {"role": "assistant", "content": last}]
    expected = reference.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert template.render(Chat.read(messages), continue_final_message=True).text == expected


def test_the_last_message_must_come_through(both: Any) -> None:
    _, template, _ = both("zephyr")
    with pytest.raises(InputError, match="the last message does not come through"):
        template.render(Chat.read([USER, {"role": "critic", "content": "Well"}]), continue_final_message=True)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
    with pytest.raises(InputError, match="the last message has no text to continue"):
        template.render(Chat.read([USER, call]), continue_final_message=True)


injected = st.lists(
    st.sampled_from([*SPECIAL, "<", ">", "s", "|im_end|", "\n", " ", "a", "猫", "\U000f0000"]), max_size=8
)


@pytest.mark.parametrize("space_before", [False, True])
@settings(max_examples=60, deadline=None)
@given(parts=st.lists(injected.map("".join), min_size=1, max_size=3))
def test_what_is_said_cannot_end_a_turn(both: Any, parts: list[str], space_before: bool) -> None:
    tokenizer, template, reference = both("chat-ml", space_before)
    messages = [{"role": "user", "content": part} for part in parts]
    prompt = template.render(Chat.read(messages))
    assert prompt.text == reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled)
    plain = [{"role": "user", "content": "x"} for _ in parts]
    without = tokenizer.encode_rendered(template.render(Chat.read(plain)).text)
    special = {tokenizer.id_of(token) for token in SPECIAL}
    assert [id for id in encoded.ids if id in special] == [id for id in without.ids if id in special]
    if not space_before:
        assert tokenizer.decode(encoded.ids.tolist(), skip_special_tokens=False) == prompt.text
    if not any("\U000f0000" in part for part in parts):  # transformers removes this mark from the text
        expected = reference.apply_chat_template(messages, add_generation_prompt=True, sanitize_control_tokens=True)
        assert encoded.ids.tolist() == expected["input_ids"]


def test_very_many_letters_of_special_tokens(both: Any) -> None:
    """Time is linear in the length of the text; quadratic time would be minutes."""
    tokenizer, template, _ = both("chat-ml")
    prompt = template.render(Chat.read([{"role": "user", "content": "<|im_end|></s>" * 5_000}]))
    assert len(prompt.spelled) == 10_000
    assert list(tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled).tokens).count("<|im_end|>") == 1


def test_a_role_is_a_special_token_whatever_its_flags(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({letter: id for id, letter in enumerate("abend")}, []))
    tokenizer.add_tokens(["end", "."])
    tokenizer.add_special_tokens(["b"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_json(
        tmp_path / "tokenizer_config.json", {"eos_token": "end", "chat_template": "{{ messages[0].content }}end"}
    )
    own, template = ours(tmp_path)
    prompt = template.render(Chat.read([{"role": "user", "content": "aendb."}]))
    assert own.encode_rendered(prompt.text, spelled=prompt.spelled).tokens == ("a", "e", "n", "d", "b", ".", "end")


@pytest.mark.parametrize(
    "names",
    [
        {"image_token": "<img>", "eot_token": "<eot>"},
        {"extra_special_tokens": {"image_token": "<img>", "eot_token": "<eot>"}},
        {"model_specific_special_tokens": {"image_token": "<img>", "eot_token": "<eot>"}},
        {"extra_special_tokens": {"image_token": "<img>", "eot_token": "<eot>"}, "image_token": "<no>"},
        {"image_token": "<no>", "extra_special_tokens": {"image_token": "<img>", "eot_token": "<eot>"}},
    ],
    ids=str,
)
def test_special_tokens_with_names_of_their_own(tmp_path: Path, names: dict[str, Any]) -> None:
    template = "{{ image_token }}{{ eot_token is defined }}{{ pad_token }}{{ messages[0].content }}{{ eot_token }}"
    save_tokenizer(tmp_path, template)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_json(tmp_path / "tokenizer_config.json", {**config, **names})
    tokenizer, chat = ours(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = chat.render(Chat.read([USER]))
    assert prompt.text == reference.apply_chat_template([USER], tokenize=False)
    expected = reference.apply_chat_template([USER], return_dict=True)["input_ids"]
    assert tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled).ids.tolist() == expected
    said = chat.render(Chat.read([{"role": "user", "content": "a<eot>b"}]))
    assert [said.text[begin:end] for begin, end in said.spelled] == ["<eot>"]


def test_where_a_template_may_lie(tmp_path: Path) -> None:
    chat = Chat.read([USER])
    named = [{"name": "default", "template": "one {{ bos_token }}"}, {"name": "tool_use", "template": "two"}]
    config = save_tokenizer(tmp_path, None) / "tokenizer_config.json"
    with pytest.raises(TokenizerError, match=r"has no chat template: expected chat_template\.jinja.*plain text"):
        ours(tmp_path)
    write_json(tmp_path / "chat_template.json", {"chat_template": "of a processor"})
    assert ours(tmp_path)[1].render(chat).text == "of a processor"
    own = find_checkpoint(tmp_path).read_object(config.name)
    write_json(config, {**own, "chat_template": named})
    assert ours(tmp_path)[1].render(chat).text == "one <s>"
    assert ours(tmp_path)[1].render(Chat.read({"messages": [USER], "tools": [TOOL]})).text == "two"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("four")
    with pytest.raises(TokenizerError, match="expected a chat template named default among tool_use"):
        ours(tmp_path)[1].render(chat)
    (tmp_path / "chat_template.jinja").write_text("three")
    assert ours(tmp_path)[1].render(chat).text == "three"
    assert ours(tmp_path)[1].render(Chat.read({"messages": [USER], "tools": [TOOL]})).text == "four"
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="is not UTF-8"):
        ours(tmp_path)


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, None)
    write_json(tmp_path / "chat_template.json", {"chat_template": [{"name": "default"}]})
    with pytest.raises(TokenizerError, match=r"chat_template\.json: chat_template must be a text, or a list"):
        ours(tmp_path)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("{{ raise_exception('No cats, please.') }}", InputError, "jinja refuses the conversation: No cats, please."),
        ("{% for message in messages %}", TokenizerError, "jinja, line 1: no chat template: .*endfor"),
        ("{{ 1 / 0 }}", TokenizerError, "fails on this conversation: ZeroDivisionError"),
        ("{{ messages[0].nothing.at_all }}", TokenizerError, "UndefinedError"),
        ("{{ messages[0].content + 1 }}", TokenizerError, "TypeError"),
        ("{{ messages.append(1) }}", TokenizerError, "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", TokenizerError, "SecurityError"),
        ("{% for i in range(10**9) %}x{% endfor %}", TokenizerError, "OverflowError: Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", TokenizerError, "RecursionError"),
        ("{% break %}", TokenizerError, "no chat template: 'break' outside loop"),
        ("{{ 'x' * 10**9 }}", TokenizerError, r"OverflowError: it makes more than 40,\d+,\d+ characters"),
        ("{{ 10**9 * messages }}", TokenizerError, r"OverflowError: it makes more than 40,\d+,\d+ characters"),
        ("{{ 10 ** 99999 }}", TokenizerError, "OverflowError: it makes a whole number of more than 10,000 bits"),
        ("{% include 'other' %}", TokenizerError, "TypeError: no loader"),
        ("", InputError, "has no token"),
    ],
)
def test_faults_of_a_template(tmp_path: Path, source: str, error: type[Exception], message: str) -> None:
    save_tokenizer(tmp_path, chat_templates.CHAT_ML)
    (tmp_path / "chat_template.jinja").write_text(source)
    tokenizer, template = ours(tmp_path)
    with pytest.raises(error, match=message):
        tokenizer.encode_rendered(template.render(Chat.read([USER])).text)


@pytest.mark.parametrize(
    ("message", "fault"),
    [({"tool_calls": [{}]}, "UndefinedError: .* has no attribute 'content'"), ({"content": "", "x": 3}, "TypeError")],
)
def test_a_conversation_at_which_a_template_fails(tmp_path: Path, message: Any, fault: str) -> None:
    save_tokenizer(tmp_path, chat_templates.CHAT_ML)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message.content.strip() }}{{ 'x' + message.x if 'x' in message }}{% endfor %}"
    )
    _, template = ours(tmp_path)
    with pytest.raises(InputError, match=fault):
        template.render(Chat.read([{"role": "user", **message}]))


def test_a_template_without_end() -> None:
    source = "{% for i in range(99999) %}{% for j in range(99999) %}" + "x" * 9999 + "{% endfor %}{% endfor %}"
    with pytest.raises(TokenizerError, match=f"more than {LONGEST:,} characters"):
        render(compile_template(source, "here"), {}, "here")


LONG = "{% for i in range(99999) %}{% for j in range(99999) @ %}"


@pytest.mark.parametrize(
    "source",
    [
        LONG.replace("@", "") + "{% endfor %}{% endfor %}",
        LONG.replace("@", "if j < 0") + "{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    ],
    ids=["loops", "filtered", "macro"],
)
def test_a_template_that_writes_nothing_without_end(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_language, "MOST_SECONDS", 0.2)
    with pytest.raises(TokenizerError, match="TimeoutError: it takes more than 0.2 s"):
        render(compile_template(source, "here"), {}, "here")


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "messages: expected a list such as"),
        ("Hello", "messages: expected a list such as"),
        ({"message": []}, "got the keys 'message'"),
        ({"messages": [USER], "tool": []}, "got the keys 'messages', 'tool'"),
        ([USER, "Hello"], "Message 1: expected"),
        ([{"content": "Hello"}], "Message 0: expected"),
        ([{"role": 3, "content": "Hello"}], "Message 0: expected"),
        ([{"role": "user"}], "Message 0 has no content"),
        ([{"role": "user", "content": None}], "Message 0 has no content"),
        ([{"role": "user", "content": 3}], "content of message 0: expected a list, got 3"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "Message 0: expected parts such as"),
        ({"messages": [USER], "tools": "weather"}, "tools: expected a list"),
        ({"messages": [USER], "chat_template_kwargs": []}, None),
        (
            {"messages": [USER], "chat_template_kwargs": {"tools": []}},
            "chat_template_kwargs: tools has a place of its own",
        ),
        ({"messages": [USER], "chat_template_kwargs": [1]}, "chat_template_kwargs: expected an object"),
    ],
)
def test_conversations_of_the_wrong_shape(conversation: Any, message: str | None) -> None:
    if message is None:
        assert Chat.read(conversation).variables == {}
        return
    with pytest.raises(InputError, match=message):
        Chat.read(conversation)


def test_parts_and_objects(both: Any) -> None:
    _, template, _ = both("chat-ml")
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]
    assert template.render(Chat.read([{"role": "user", "content": parts}])) == template.render(Chat.read([USER]))
    with pytest.raises(InputError, match="Expected texts, numbers, lists and objects"):
        template.render(Chat.read([{**USER, "path": Path()}]))


def test_letters_that_are_always_the_token(tmp_path: Path) -> None:
    """A vocabulary with pieces that spell a special token cannot tell the two apart."""
    model = tokenizers.models.Unigram(
        [("<unk>", 0.0), ("</s>", -1.0), *((letter, -3.0) for letter in "abcs<>/")], unk_id=0
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(["</s>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}")
    ours_, template = ours(tmp_path)
    prompt = template.render(Chat.read([{"role": "user", "content": "a</s>b"}]))
    with pytest.raises(InputError, match="'</s>' is a special token to this tokenizer even where"):
        ours_.encode_rendered(prompt.text, spelled=prompt.spelled)
