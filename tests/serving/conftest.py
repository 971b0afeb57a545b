"""Servers of the shipped models, of a real sentence encoder, and of small models for all other tasks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import openai
import pytest

from tests.checkpoints import CHAT_TEMPLATE, llama
from tests.damage import soundness
from tests.serving.harness import Running, ServerThread
from tests.serving.scripted import TOOL_TEMPLATE, random_texts, scripted
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


class Scripts(NamedTuple):
    """The texts of the model `scripted`, and the tokens of the prompt that makes it write each."""

    texts: list[str]
    begins: list[int]

    def begin(self, text: str) -> int:
        """Return the tokens of the prompt for a text."""
        return self.begins[self.texts.index(text)]


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
def scripts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scripts, Path]:
    folder = tmp_path_factory.mktemp("scripted") / "scripted"
    texts = [*random_texts(200), *CALLS.values()]
    return Scripts(texts, scripted(folder, texts)), folder


@pytest.fixture(scope="session")
def chat_server(scripts: tuple[Scripts, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a running server of writers: `story`, `scripted`, and `org/chat` and `tools` with random weights."""
    folder = llama("LlamaForCausalLM", tmp_path_factory.mktemp("chat") / "chat", CHAT_TEMPLATE)
    tools = llama("LlamaForCausalLM", folder.with_name("tools"), TOOL_TEMPLATE, max_position_embeddings=512)
    sources = ["story", f"org/chat={folder}", f"scripted={scripts[1]}", f"tools={tools}"]
    with ServerThread(lambda: load_all(sources)) as running:
        yield running


@pytest.fixture(scope="session")
def client(chat_server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0)
