"""`triform demo`, and `triform run` without a model, as a person meets them."""

import os
import subprocess
import sys

import pytest

from tests.cli.terminal import Terminal
from tests.cli.test_cli import triform_command
from triform.demo import DEMOS


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_every_step_is_shown(name: str) -> None:
    code, out, err = triform_command("demo", name, DEMOS[name].example)
    assert (code, err) == (0, "")
    places = [out.index(step) for step in ("\ntext", "\n→ tokens → ids", "\n→ tensors", "probabilities", "\n→ text")]
    assert places == sorted(places)


def test_without_a_name_all_show_their_examples() -> None:
    code, out, err = triform_command("demo", stdin="")
    assert (code, err) == (0, "")
    assert all(demo.summary in out for demo in DEMOS.values())


def test_each_line_of_a_pipe_is_answered() -> None:
    code, out, _ = triform_command("demo", "sentiment", stdin="I love it.\n\nI hate it [really].\n")
    assert code == 0
    assert out.count("→ tokens") == 2
    assert "I hate it [really]." in out


@pytest.mark.slow
def test_errors() -> None:
    code, out, err = triform_command("demo", "poetry")
    assert (code, out) == (2, "")
    assert "sentiment, entities, translation, story" in err
    code, out, err = triform_command("demo", "sentiment", " ")
    assert (code, out) == (3, "")
    assert "error: The text is empty." in err
    code, _, err = triform_command("demo", "sentiment", "word " * 300)
    assert code == 3
    assert "tokens" in err


def test_no_torch_is_needed() -> None:
    script = """
import sys
sys.modules["torch"] = None
sys.argv = ["triform", "demo"]
from triform.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input="", capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("demo", DEMOS.values(), ids=list(DEMOS))
def test_run_without_a_model_takes_the_shipped_one_and_says_so(demo: object) -> None:
    task, name = demo.task, demo.name  # type: ignore[attr-defined]
    code, out, err = triform_command("run", task, demo.example)  # type: ignore[attr-defined]
    assert code == 0
    assert out
    assert f"triform demo {name}" in err
    code, named, err = triform_command("run", task, demo.example, "--model", demo.folder)  # type: ignore[attr-defined]
    assert (code, err) == (0, "")
    assert task == "text-generation" or named == out


def test_at_a_terminal_what_is_typed_is_answered() -> None:
    person = Terminal("demo", "entities")
    try:
        person.read_until("Type a text(?s:.*)entities> ")
        person.type("Anna moved to Paris.\n")
        person.read_until("→ tokens(?s:.*)Paris(?s:.*)entities> ")
        person.type("word " * 300 + "\n")
        person.read_until("error: (?s:.*)tokens(?s:.*)entities> ")
        person.type("sentiment\n")
        person.read_until("sentiment> ")
        person.type("I love it.\n")
        person.read_until("positive(?s:.*)sentiment> ")
        person.type("\x04")
        assert person.leave() == 0
    finally:
        person.close()
