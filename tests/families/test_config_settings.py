"""A property of config.json: no key changes an answer of the reference implementation and not Triform's, in silence.

Each key that transformers saves, each alias, each key that Triform knows, and each key of older layouts gets other
values. Triform then gives the logits of transformers, or an error.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests.parity.harness import random_inputs, run_reference
from tests.weights import CASE, make
from triform import families
from triform.errors import TriformError
from triform.families.kit.config import BOOKKEEPING, GENERATION, TRAINING
from triform.settings import KeyUse

CASES = """
    bert-sequence bert-masked-lm roberta-masked-lm xlm-roberta-sequence distilbert-sequence mpnet-masked-lm bart-lm
    bart-sequence marian-lm llama-sequence llama3 gpt2-lm mistral-window qwen2-window qwen3-lm t5-lm t5-v1.1
""".split()
OLDER = """
    rope_scaling rope_theta rope_parameters partial_rotary_factor n_ctx n_positions head_dim num_labels id2label
    hidden_act activation_function num_hidden_layers num_key_value_heads dense_act_fn is_gated_act sliding_window
    layer_types use_sliding_window is_decoder tie_word_embeddings
""".split()
"""Keys of older layouts, and keys of pairs of which one may overrule the other."""
ARRANGEMENT = {"architectures", "return_dict", "gradient_checkpointing", "dtype", "torch_dtype"}
"""Keys for which the comparison itself means another class or dtype, or another form of output."""
ROPES = [
    *({"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}, {"type": "dynamic", "factor": 2.0}),
]


ABSENT = [True, 0, 3, 0.5, "relu"]
"""Values of keys that a config does not have."""


def other_values(key: str, value: Any, turn: int) -> list[Any]:
    """Return values to try; of keys that should be harmless and are absent, one of `ABSENT` by the turn of the case."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, max(value // 2, 1)]
        case float():
            return [value * 2 + 0.125]
        case str():
            return [f"{value}x", "gelu_new", "relu"]
        case list():
            return [value[::-1], value[:-1], []]
        case dict():
            return [{}, {**value, "more": 1}]
    if key in (BOOKKEEPING | TRAINING | GENERATION) - {*OLDER}:
        return [ABSENT[(turn + len(key)) % len(ABSENT)]]
    return ROPES if "rope" in key else ABSENT


def known_keys(config: dict[str, Any]) -> set[str]:
    """Return the keys that the family reads."""
    report: dict[str, KeyUse] = {}
    every = dict.fromkeys((*config, *OLDER, *BOOKKEEPING, *TRAINING, *GENERATION), None)
    families.read_spec({**every, **config}, "config.json", report=report)
    return set(report)


def changed_configs(config: dict[str, Any], reference: Any, turn: int) -> Iterator[tuple[str, dict[str, Any]]]:
    full = {**reference.config.to_dict(), **config}
    keys = {*full, *type(reference.config).attribute_map, *known_keys(config), *OLDER}
    for key in sorted((keys | BOOKKEEPING | TRAINING | GENERATION) - ARRANGEMENT):
        for value in other_values(key, full.get(key), turn):
            yield key, {**config, key: value}
        if key in config:
            yield key, {own: value for own, value in config.items() if own != key}


def run_theirs(name: str, folder: Path, source: list[int], target: list[int] | None) -> Any:
    """Run the reference implementation; None if the model cannot be loaded, or would be random in part."""
    try:
        model, info = getattr(transformers, CASE[name].model).from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        return None if info["missing_keys"] else run_reference(model.eval(), source, target).logits
    except Exception:  # whatever a damaged config leads to
        return None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep small matrices on one thread, which is much faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_no_key_of_config_json_changes_an_answer_in_silence(name: str, tmp_path: Path) -> None:
    reference = make(name, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    model = triform.load(tmp_path)
    sources, targets = random_inputs(CASE[name], model, lengths=(40,))
    batches = [triform.Batch.from_ids(ids) for ids in (sources, targets) if ids is not None]
    first = np.asarray(model(*batches).logits)
    different, keys = [], set()
    for key, changed in changed_configs(config, reference, CASES.index(name)):
        keys.add(key)
        path.write_text(json.dumps(changed))
        try:
            ours = np.asarray(triform.load(tmp_path)(*batches).logits)
        except TriformError:
            continue
        theirs = run_theirs(name, tmp_path, sources[0], None if targets is None else targets[0])
        expected = first if theirs is None else theirs.reshape(-1, theirs.shape[-1])
        if ours.shape != expected.shape or np.abs(ours - expected).max() > 1e-4 * max(1, np.abs(expected).max()):
            different.append((key, changed.get(key)))
    assert not different
    assert len(keys) > 90
