"""A property of adapter_config.json: no key changes an answer of PEFT and not Triform's, in silence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

import triform
from tests.weights import make
from tests.weights.test_adapter import adapt
from triform.errors import TriformError

IDS = [[5, 40, 52, 71, 90, 33, 12, 99]]
ABSENT: list[Any] = [True, False, 3, 0.5, "x", ["q_proj"], [0], {"q_proj": 2}]
"""Values for keys that are null or empty in the file."""


def other_values(value: Any) -> list[Any]:
    match value:
        case bool():
            return [not value, None]
        case int() | float():
            return [value * 2, value / 2, None]
        case str():
            return [f"{value}x", None]
        case [*_] if value:
            return [value[:1], value[::-1], [*value, "more"], None]
    return ABSENT


def run_theirs(base: Path, adapter: Path) -> Any:
    """Run PEFT; None if the adapter cannot be loaded."""
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
        model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
        with torch.no_grad():
            return model(torch.tensor(IDS)).logits[0].numpy()
    except Exception:  # whatever a damaged config leads to
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_key_of_adapter_config_json_changes_an_answer_in_silence(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    reference = adapt(make("llama-lm", base), adapter, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with torch.no_grad():
        first = reference(torch.tensor(IDS)).logits[0].numpy()
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    different = []
    for key in [*config, "a_key_of_tomorrow"]:
        for value in other_values(config.get(key)):
            path.write_text(json.dumps({**config, key: value}))
            try:
                ours = np.asarray(triform.load(base, adapter=adapter)(triform.Batch.from_ids(IDS)).logits)
            except TriformError:
                continue
            theirs = run_theirs(base, adapter)
            expected = first if theirs is None else theirs
            if ours.shape != expected.shape or np.abs(ours - expected).max() > 1e-4:
                different.append((key, value))
    assert not different
    assert len(config) >= 35
