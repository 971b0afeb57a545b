"""Hooks on whole models: positions, selections, and results unchanged by a hook."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.parity.cases import CASES, llama
from tests.parity.harness import Case, make_checkpoint
from triform import Batch, Model
from triform.engines import Array, Hook, Integers, Selection, Spans

BY_NAME = {case.name: case for case in CASES}
IDS = [[5, 6, 7, 8, 9, 10, 11], [9], [10, 11, 12, 13]]


class Probabilities(Hook):
    """A hook records attention probabilities, and each pass through `enter`."""

    def __init__(self, selection: bool | Selection = True) -> None:
        self.selection = selection
        self.passes: list[tuple[str, list[int], list[int]]] = []
        self.shown: dict[tuple[str, int, int], Any] = {}

    def enter(self, stack: str, spans: Spans, starts: Integers) -> None:
        self.passes.append((stack, spans.lengths.tolist(), starts.tolist()))

    def wants(self, name: str) -> bool | Selection:
        return name.endswith("probabilities") and self.selection

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        for query in range(value_NQK.shape[1]):
            self.shown[name, sequence, first_query + query] = value_NQK[:, query]
        return value_NQK


def load(name: str, folder: Path, engine: str = "native") -> Model:
    make_checkpoint(BY_NAME[name], folder)
    return triform.load(folder, engine=engine)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("name", ["bert", "mpnet", "mistral-window", "llama-grouped", "t5-lm"])
def test_a_selection_changes_nothing(name: str, engine: str, tmp_path: Path) -> None:
    model = load(name, tmp_path, engine)
    batch = Batch.from_ids(IDS)
    arguments = (batch, batch) if name == "t5-lm" else (batch,)
    plain, whole = model(*arguments), Probabilities()
    np.testing.assert_array_equal(model(*arguments, hook=whole).last_hidden_state, plain.last_hidden_state)
    part = Probabilities(Selection(heads=[1], rows=np.array([2, 3, 8])))
    np.testing.assert_array_equal(model(*arguments, hook=part).last_hidden_state, plain.last_hidden_state)
    # Rows 2 and 3 are of the first sequence, row 8 is the first of the third.
    assert {(sequence, query) for _, sequence, query in part.shown} == {(0, 2), (0, 3), (2, 0)}
    assert {name for name, _, _ in part.shown} == {name for name, _, _ in whole.shown}
    for place, p in part.shown.items():
        seen = whole.shown[place][1, : p.shape[1]]
        np.testing.assert_array_equal(p[0], seen)


def test_a_hook_knows_the_stack_the_rows_and_the_positions(tmp_path: Path) -> None:
    model, hook = load("t5-lm", tmp_path), Probabilities()
    source = model.encode(Batch.from_ids(IDS), hook=hook)
    cache = model.new_cache(3)
    for lengths in ([2, 1, 3], [1, 1, 1]):
        model(source, Batch.from_ids([[5] * length for length in lengths]), cache=cache, hook=hook)
    assert hook.passes == [
        ("encoder.", [7, 1, 4], [0, 0, 0]),
        ("decoder.", [2, 1, 3], [0, 0, 0]),
        ("decoder.", [1, 1, 1], [2, 1, 3]),
    ]


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "HeadsOff" in block]
    config = partial(llama, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=8, hidden_size=64)
    make_checkpoint(Case(name="deep", model="LlamaForCausalLM", config=config), tmp_path)
    names: dict[str, Any] = {"model": triform.load(tmp_path), "batch": Batch.from_ids(IDS)}
    exec(code, names)
    model, batch, hook = (names[name] for name in ("model", "batch", "HeadsOff"))

    class Contexts(hook):  # type: ignore[valid-type, misc]
        def wants(self, name: str) -> bool | Selection:
            return name == "blocks.3.attention.context" or super().wants(name)

        def tensor(self, name: str, value: Array) -> Array:
            self.seen = value
            return value

    recorder = Contexts()
    model(batch, hook=recorder)
    is_off = ~recorder.seen.any(axis=(0, 2))
    assert np.flatnonzero(is_off).tolist() == [0, 5]


def test_a_selection_under_a_cache_counts_rows_of_the_pass(tmp_path: Path) -> None:
    model = load("llama-grouped", tmp_path)
    whole, part = Probabilities(), Probabilities(Selection(rows=np.array([1])))
    for hook in (whole, part):
        cache = model.new_cache(2)
        for ids in ([[5, 6, 7], [8]], [[9], [10]]):
            model(Batch.from_ids(ids), cache=cache, hook=hook)
    name = "blocks.0.attention.probabilities"
    assert [place for place in part.shown if place[0] == name] == [(name, 0, 1), (name, 1, 0)]
    np.testing.assert_array_equal(part.shown[name, 1, 0], whole.shown[name, 1, 0])
    assert part.shown[name, 1, 0].shape[-1] == 2


def test_hidden_states_are_kept_beside_a_hook_and_its_selection(tmp_path: Path) -> None:
    model, batch = load("bert", tmp_path), Batch.from_ids(IDS)
    hook = Probabilities(Selection(heads=[0]))
    plain, hooked = model(batch, hidden_states=True), model(batch, hidden_states=True, hook=hook)
    np.testing.assert_array_equal(hooked.hidden_states, plain.hidden_states)
    assert hook.passes == [("", [7, 1, 4], [0, 0, 0])]
    assert {p.shape[0] for p in hook.shown.values()} == {1}
