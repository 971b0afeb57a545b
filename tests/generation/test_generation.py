"""Greedy decoding's limits and settings, and the pages of the cache."""

import json
from pathlib import Path
from typing import Any

import pytest

import triform
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.errors import GenerationWarning, InputError, UnsupportedModelError
from triform.generation import GenerationConfig
from triform.hub import find

CASE = Case(name="llama", model="LlamaForCausalLM", config=llama)
PROMPTS = Batch.from_ids([[5, 6, 7], [8], [9, 10]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint(CASE, tmp_path)
    return tmp_path


def configure(folder: Path, **settings: Any) -> None:
    (folder / "generation_config.json").write_text(json.dumps(settings))


def test_stops_at_each_end_token_and_at_the_limit(folder: Path) -> None:
    configure(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    free = triform.load(folder).generate(PROMPTS, max_new_tokens=20)
    assert [len(ids) for ids in free] == [20, 20, 20]
    # Whatever the first says third, and the second says fifth, shall now end a text.
    ends = [free[0][2], free[1][4]]
    configure(folder, eos_token_id=ends)
    stopped = triform.load(folder).generate(PROMPTS, max_new_tokens=20)
    for ids, whole in zip(stopped, free, strict=True):
        first = next((place for place, token in enumerate(whole) if token in ends), 19)
        assert ids == whole[: first + 1]


def test_limits_come_from_the_caller_the_checkpoint_and_the_context(folder: Path) -> None:
    configure(folder, eos_token_id=None, max_new_tokens=4)
    model = triform.load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    assert [len(ids) for ids in model.generate(PROMPTS)] == [4, 4, 4]
    assert [len(ids) for ids in model.generate(PROMPTS, max_new_tokens=2)] == [2, 2, 2]
    configure(folder, max_length=8)
    assert [len(ids) for ids in model.generate(PROMPTS)] == [5, 5, 5]
    configure(folder)
    assert [len(ids) for ids in model.generate(Batch.from_ids([[5] * 250]))] == [6]
    with pytest.raises(
        InputError, match="prompt of 250 tokens and 7 new ones are more than the model's context of 256"
    ):
        model.generate(Batch.from_ids([[5] * 250]), max_new_tokens=7)
    with pytest.raises(InputError, match="max_new_tokens must be at least 1, got 0"):
        model.generate(PROMPTS, max_new_tokens=0)


def test_settings_that_would_change_the_answer_are_refused_or_said(folder: Path) -> None:
    configure(folder, repetition_penalty=1.3)
    with pytest.raises(UnsupportedModelError, match=r"repetition_penalty = 1.3 changes the answers"):
        triform.load(folder).generate(PROMPTS)
    configure(folder, repetition_penalty=1.0, suppress_tokens=[], do_sample=True, temperature=0.6)
    with pytest.warns(GenerationWarning, match="asks for do_sample = True; this version decodes greedily"):
        triform.load(folder).generate(PROMPTS, max_new_tokens=2)


def test_older_checkpoints_keep_their_settings_in_the_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"no_repeat_ngram_size": 3}))
    with pytest.raises(UnsupportedModelError, match=r"config.json: no_repeat_ngram_size = 3 changes the answers"):
        triform.load(folder).generate(PROMPTS)


def test_an_encoder_decoder_must_know_its_start() -> None:
    config = GenerationConfig()
    assert config.new_tokens(10, None, None) == 256
    assert config.new_tokens(10, None, 100) == 90


def test_the_start_token_is_named_in_the_error(tmp_path: Path) -> None:
    from tests.parity.cases import t5

    make_checkpoint(Case(name="t5", model="T5ForConditionalGeneration", config=t5), tmp_path)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / name).read_text())
        content.pop("decoder_start_token_id", None)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not say what its decoder begins with"):
        triform.load(tmp_path).generate(PROMPTS)
    assert GenerationConfig.read(find(tmp_path)).eos_token_ids == {1}
