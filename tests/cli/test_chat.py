"""`triform chat` as a person meets the command: in a terminal, with Ctrl-C and Ctrl-D, and through a pipe."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import triform
from tests import checkpoints
from tests.cli.terminal import Terminal
from tests.cli.test_cli import triform_command
from triform.cli.chat import STREAMED
from triform.tasks.generative.options import OPTIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model that never ends an answer."""
    folder = checkpoints.llama(
        "LlamaForCausalLM",
        tmp_path_factory.mktemp("chat"),
        chat_template=checkpoints.CHAT_TEMPLATE,
        max_position_embeddings=8192,
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "suppress_tokens": [2]}))
    return folder


@pytest.fixture
def terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*arguments: str | Path, model: Path = folder) -> Terminal:
        opened.append(Terminal("chat", model, *arguments))
        opened[-1].read_until("leaves.*\r\n> ")
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_a_conversation(folder: Path, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    saved, system = tmp_path / "saved.jsonl", [{"role": "system", "content": "Be brief."}]
    person = terminal("--system", "Be brief.", "--max-new-tokens", "12")
    said = ["A cat sat — 猫.", "And?"]
    for text in said:
        person.type(text + "\n")
        assert re.search(r"12 tokens in [\d.]+ s, [\d.]+ tokens/s", person.read_until(r"tokens/s.*\r\n"))
        person.read_until("cut off after 12 tokens.*\r\n> ")
    person.type(f"/save {saved}\n")
    person.read_until("\r\n> ")
    person.type(f"/save {saved}\n")
    person.read_until("error: /save .*: File exists")
    person.type("/hepl\n")
    person.read_until("'/hepl' is not a command(.|\n)*/reset(.|\n)*\r\n> ")
    person.type("/reset\n")
    person.type("And?\n")
    person.read_until("cut off")
    person.type(f"/save {saved}.again\n")
    person.read_until("\r\n> ")
    person.type("\x04")
    assert person.leave() == 0
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=12)
    expected = system
    for text in said:
        expected = generate([*expected, {"role": "user", "content": text}])[0]["generated_text"]
    assert json.loads(saved.read_text()) == expected
    again = generate([*system, {"role": "user", "content": "And?"}])[0]["generated_text"]
    assert json.loads(Path(f"{saved}.again").read_text()) == again
    assert triform_command("run", "text-generation", "-m", folder, "-i", saved, "--max-new-tokens", "2")[0] == 0


def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    folder: Path, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    saved = tmp_path / "saved.jsonl"
    person = terminal("--max-new-tokens", "7000")
    person.type("A cat\n")
    person.read_until("A cat\r\n.")
    person.type("\x03")
    counted = re.search(r"(\d+) tokens in .*, stopped", person.read_until("stopped.*\r\n> "))
    assert counted
    assert 0 < int(counted[1]) < 7000
    person.type("half a line")
    person.read_until("half a line")
    person.press_until("\x03", r"/exit or Ctrl-D leaves.*\r\n> ")
    person.type(f"/save {saved}\n")
    person.read_until("saved.jsonl\r\n> ")
    user, answer = json.loads(saved.read_text())
    assert user == {"role": "user", "content": "A cat"}
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=int(counted[1]))
    whole = generate([user], return_full_text=False)[0]["generated_text"]
    assert whole.startswith(answer["content"])  # the last token may be half a character, or just not said yet
    assert len(whole) - len(answer["content"]) < 20
    person.type("/exit\n")
    assert person.leave() == 0


def test_a_conversation_longer_than_the_context(
    folder: Path, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 128}))
    person = terminal("--max-new-tokens", "4", model=tmp_path)
    person.type("A cat\n")
    person.read_until("cut off.*\r\n> ")
    person.type("no " * 100 + "\n")
    person.read_until("error: The conversation has .* tokens, more than the 128 that fit")
    person.read_until("as it was before. /reset begins a new one.*\r\n> ")
    person.type("/reset\nA cat\n")
    person.read_until("4 tokens in")


@pytest.mark.slow
def test_through_a_pipe(folder: Path) -> None:
    generate = triform.pipeline("text-generation", model=folder, max_new_tokens=6)
    chat = generate([{"role": "user", "content": "A cat"}])[0]["generated_text"]
    chat = generate([*chat, {"role": "user", "content": "/And?"}])[0]["generated_text"]
    options = ("--max-new-tokens", "6")
    code, out, err = triform_command("chat", folder, *options, stdin="A cat\n\n//And?\n/reset\r\nA cat")
    assert code == 0
    assert out == "".join(chat[turn]["content"] + "\n" for turn in (1, 3, 1))
    assert err.count("warning: The answer was cut off after 6 tokens") == 3
    drawn = ("--do-sample", "--temperature", "0.9", "--top-p", "0.8", "--seed", "3")
    expected = generate(chat[:1], do_sample=True, temperature=0.9, top_p=0.8, seed=3)[0]["generated_text"][1]
    assert triform_command("chat", folder, *options, *drawn, stdin="A cat")[1] == expected["content"] + "\n"


@pytest.mark.slow
def test_every_setting_that_can_be_streamed_is_an_option(folder: Path) -> None:
    assert {"num_beams", "length_penalty"} == set(OPTIONS) - set(STREAMED)
    _, out, _ = triform_command("chat", "--help", COLUMNS="200")
    assert all(f"--{name.replace('_', '-')} " in out for name in STREAMED)
    code, _, err = triform_command("chat", folder, "--max-time", "1e-9", stdin="A cat")
    assert (code, "was cut off after 1 tokens, the most time that --max-time" in err) == (0, True)


@pytest.mark.slow
def test_faults_end_a_pipe(folder: Path, tmp_path: Path) -> None:
    for arguments, stdin, code, message in (
        ((folder,), "/hepl", 3, "'/hepl' is not a command"),
        ((folder, "--temperature", "0.5"), "Hello", 3, "no effect without do_sample=True"),
        ((folder,), f"/save {tmp_path}/no/such", 3, "No such file or directory"),
        ((checkpoints.llama("LlamaForCausalLM", tmp_path),), "Hello", 4, "has no chat template"),
    ):
        actual, out, err = triform_command("chat", *arguments, stdin=stdin)
        assert (actual, out) == (code, "")
        assert message in err
        assert "Traceback" not in err
