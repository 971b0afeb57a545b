"""Servers of the shipped models, of a real sentence encoder, and of small models for all other tasks."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import openai
import pytest

from tests.checkpoints import CHAT_TEMPLATE, llama
from tests.damage import soundness
from tests.serving.harness import Running, ServerThread
from tests.serving.scripted import TOOL_TEMPLATE, filler, random_texts, scripted
from triform.demo import DEMOS
from triform.serving.models import Registry, load_all


@pytest.fixture(scope="session")
def registry(minilm: Path) -> Registry:
    return load_all([*DEMOS, f"minilm={minilm}"])


@pytest.fixture(scope="session")
def server(registry: Registry) -> Iterator[Running]:
    """Return a running server of all the models."""
    with ServerThread(lambda: registry) as running:
        yield running


@pytest.fixture(scope="session")
def small_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Return a small random model for each task that no shipped model does."""
    root = tmp_path_factory.mktemp("small")
    folders = [
        soundness.bert_of_labels(root / "rank", "SequenceClassification", ("one",)),
        soundness.bert_of_labels(root / "nli"),
        soundness.bert_of_labels(root / "mask", "MaskedLM"),
        soundness.bert_of_labels(root / "spans", "QuestionAnswering", ("a", "b")),
        soundness.bert_of_sentences(root / "sentences"),
        soundness.llama_that_chats(root / "chat"),
        soundness.t5_of_unigrams(root / "t5"),
    ]
    shutil.copytree(root / "sentences", root / "bare")
    (root / "bare" / "modules.json").unlink()
    return load_all([*(str(sound.folder) for sound in folders), str(root / "bare")])


@pytest.fixture(scope="session")
def small(small_registry: Registry) -> Iterator[Running]:
    """Return a running server of the small models."""
    with ServerThread(lambda: small_registry) as running:
        yield running


class Script(NamedTuple):
    """A model that writes a text."""

    model: str
    prompt: str
    """The message that makes the model write the text."""


Scripts = Mapping[str, Script]
"""Text → what writes it."""


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich 🌧", "days": 2}}\n</tool_call>'
CALLS = {
    "call": CALL,
    "text and call": f"Let me look.\n{CALL}",
    "two calls": f'{CALL}\n<tool_call>{{"name": "clock", "arguments": {{}}}}</tool_call>',
    "unknown": '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>',
    "broken": '<tool_call>\n{"name": "weather", "arguments": {"city": ',
    "no call": "I <tool_ do not call.",
}


@pytest.fixture(scope="session")
def script_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="session")
def scripts(script_folder: Path) -> Scripts:
    """Write models for 200 random texts, 40 each, and for the texts with calls."""
    found: dict[str, Script] = {}
    texts = random_texts(200)
    for number, own in enumerate([*(texts[begin : begin + 40] for begin in range(0, 200, 40)), [*CALLS.values()]]):
        name = f"scripted{number}"
        begins = scripted(script_folder / name, own)
        found |= {text: Script(name, filler(begin)) for text, begin in zip(own, begins, strict=True)}
    return found


@pytest.fixture(scope="session")
def chat_server(scripts: Scripts, script_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a running server of writers: `story`, those of `scripts`, `org/chat` and `tools` with random weights."""
    folder = llama("LlamaForCausalLM", tmp_path_factory.mktemp("chat") / "chat", CHAT_TEMPLATE)
    tools = llama("LlamaForCausalLM", folder.with_name("tools"), TOOL_TEMPLATE, max_position_embeddings=512)
    written = [f"{name}={script_folder / name}" for name in sorted({script.model for script in scripts.values()})]
    sources = ["story", f"org/chat={folder}", f"tools={tools}", *written]
    with ServerThread(lambda: load_all(sources)) as running:
        yield running


@pytest.fixture(scope="session")
def client(chat_server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0)
