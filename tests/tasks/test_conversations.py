"""text-generation of conversations, beside the pipeline of transformers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import both
from triform.errors import InputError, TokenizerError, UnsupportedModelError
from triform.inputs import EncodedText

USER = {"role": "user", "content": "A cat sat — 猫."}
STARTED = {"role": "assistant", "content": "Once upon"}
CHATS = [[USER], [{"role": "system", "content": "Be brief."}, USER, STARTED, USER], [USER, STARTED]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.llama(
        "LlamaForCausalLM", tmp_path_factory.mktemp("chat"), chat_template=checkpoints.CHAT_TEMPLATE
    )


@pytest.mark.parametrize("full", [True, False])
def test_conversations(folder: Path, full: bool) -> None:
    ours, reference = both("text-generation", folder)
    options: dict[str, Any] = {"max_new_tokens": 8, "return_full_text": full}
    expected = [reference(chat, do_sample=False, **options) for chat in CHATS]
    assert [ours(chat, **options) for chat in CHATS] == expected
    assert ours(CHATS, **options) == expected
    assert ours({"messages": CHATS[1]}, **options) == expected[1]
    assert ours([{"messages": chat} for chat in CHATS], **options) == expected
    assert list(ours(iter(CHATS), **options)) == expected


def test_whether_the_last_message_goes_on(folder: Path) -> None:
    ours, reference = both("text-generation", folder)
    for chat, goes_on in (([USER], True), ([USER, STARTED], False)):
        options: dict[str, Any] = {"max_new_tokens": 8, "continue_final_message": goes_on}
        assert ours(chat, **options) == reference(chat, do_sample=False, **options)


def test_several_answers_that_stop(folder: Path) -> None:
    ours, reference = both("text-generation", folder)
    options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": 2, "num_return_sequences": 2}
    assert ours([USER], **options) == reference([USER], do_sample=False, **options)
    said = ours([USER], max_new_tokens=8, return_full_text=False)[0]["generated_text"]
    stopped = ours([USER], max_new_tokens=8, stop=said[3:5])[0]["generated_text"]
    assert stopped == [USER, {"role": "assistant", "content": said[: said.find(said[3:5])]}]


def test_texts_and_conversations_together(folder: Path) -> None:
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=4)
    inputs = ["A cat", CHATS[0], "The house", {"messages": CHATS[1]}]
    assert generate(inputs) == [generate(each) for each in inputs]

    def some() -> Iterator[Any]:
        yield from inputs

    assert list(generate(some())) == generate(inputs)


def test_what_a_template_reads_beside_messages(tmp_path: Path) -> None:
    template = "{{ messages[0].content }}{{ tools[0].name }}{{ documents[0].text }}{% if loud %}!{% endif %}"
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path, chat_template=template)
    generate = triform.pipeline("text-generation", model=folder)
    given = {
        "messages": [{"role": "user", "content": "A"}],
        "tools": [{"name": " cat"}],
        "documents": [{"text": " sat"}],
        "chat_template_kwargs": {"loud": True},
    }
    batch = generate.preprocess([given], generate.options)
    assert batch.sources_of(EncodedText)[0].text == "A cat sat!"
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    assert batch.ids.tolist() == reference("A cat sat!", add_special_tokens=False)["input_ids"]


def test_faults(folder: Path, tmp_path: Path) -> None:
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=4)
    with pytest.raises(InputError, match=r"^The conversation has \d+ tokens, more than the 128 that fit\. Leave"):
        generate([{"role": "user", "content": "A cat. " * 100}], long_input="truncate")
    with pytest.raises(InputError, match="^Input 1: Message 1: expected"):
        generate([[USER], [USER, "Hello"]])
    with pytest.raises(InputError, match="^Message 0 has no content"):
        generate([{"role": "user"}])
    plain = triform.pipeline("text-generation", model=checkpoints.llama("LlamaForCausalLM", tmp_path))
    with pytest.raises(TokenizerError, match="has no chat template"):
        plain([USER])


def test_a_prefix_of_the_config_is_refused_before_plain_prompts(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path, checkpoints.CHAT_TEMPLATE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "prefix": "the sea "}))
    generate = triform.pipeline("text-generation", folder, max_new_tokens=2)
    with pytest.raises(UnsupportedModelError, match="prefix is 'the sea '; expected none"):
        generate("the cat")
    assert generate([{"role": "user", "content": "the cat"}])
