"""Each key of generation_config.json: the tokens of transformers, or a clear error."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests.generation.reference import Pair
from tests.parity.cases import BART, llama, of, t5
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.errors import InputError, TriformError, UnsupportedModelError
from triform.generation import GenerationConfig
from triform.generation.checkpoint_settings import HARMLESS, NOT_IMPLEMENTED
from triform.generation.config import MAX_CHECKPOINT_TOKENS, MAX_WITHOUT_CONTEXT, SETTINGS
from triform.generation.processors import process, warp
from triform.generation.sequence import GrowingSequence, Limit
from triform.hub import find_checkpoint

CASE = Case(name="llama", model="LlamaForCausalLM", config=llama)
IDS = [5, 6, 7, 8, 5, 6]
NEW = 6

VALUES: dict[str, list[Any]] = {
    "max_length": [3, 9, 20],
    "max_new_tokens": [2],
    "min_length": [9],
    "min_new_tokens": [4],
    "early_stopping": [True, "never"],
    "max_time": [1000.0],
    "stop_strings": [["x"]],
    "do_sample": [False, 1],
    "num_beams": [2, 0],
    "temperature": [0.0, 0.5, 3.0, "hot"],
    "top_k": [3, -1],
    "top_p": [0.5, 7.0],
    "min_p": [0.2, 7.0],
    "top_h": [0.4],
    "typical_p": [0.5, 1.0],
    "epsilon_cutoff": [0.01, 0.0],
    "eta_cutoff": [0.01, 0.0],
    "repetition_penalty": [1.7],
    "encoder_repetition_penalty": [1.7, 1.0],
    "length_penalty": [2.0, -1.0],
    "no_repeat_ngram_size": [2],
    "bad_words_ids": [[[9], [7, 8]]],
    "renormalize_logits": [True],
    "forced_bos_token_id": [4],
    "forced_eos_token_id": [4],
    "remove_invalid_values": [True, False],
    "exponential_decay_length_penalty": [[2, 1.5]],
    "suppress_tokens": [[9, 10, 11]],
    "begin_suppress_tokens": [[9, 10, 11]],
    "sequence_bias": [[[[9], 5.0]]],
    "token_healing": [True, False],
    "guidance_scale": [2.0, 1.0],
    "watermarking_config": [{"bias": 3.0}],
    "num_return_sequences": [1, 3],
    "output_attentions": [True],
    "output_hidden_states": [True],
    "output_scores": [True],
    "output_logits": [True],
    "return_dict_in_generate": [True],
    "pad_token_id": [0, -1],
    "bos_token_id": [3],
    "eos_token_id": [list(range(0, 120, 3)), -1],
    "encoder_no_repeat_ngram_size": [2, 0],
    "decoder_start_token_id": [3],
    "is_assistant": [False],
    "num_assistant_tokens": [5],
    "num_assistant_tokens_schedule": ["constant"],
    "assistant_confidence_threshold": [0.5],
    "prompt_lookup_num_tokens": [3],
    "max_matching_ngram_size": [2],
    "assistant_early_exit": [None],
    "assistant_lookbehind": [4],
    "target_lookbehind": [4],
    "assistant_ensemble_weight": [0.5],
    "speculation_type": [None],
    "use_mtp": [False],
    "use_cache": [False, True],
    "cache_implementation": ["dynamic"],
    "cache_config": [None],
    "max_cache_len": [64],
    "compile_config": [None],
    "disable_compile": [True],
    "continuous_batching_config": [None],
    "low_memory": [False],
    "penalty_alpha": [0.6, 0.0],
    "dola_layers": ["high"],
    "diversity_penalty": [0.5],
    "num_beam_groups": [2, 1],
    "constraints": [["x"]],
    "force_words_ids": [[[9]]],
    "prefill_chunk_size": [2],
    "transformers_version": ["4.0.0"],
    "unheard_of": [1],
}
MODES: dict[str, dict[str, Any]] = {"greedy": {}, "sampled": {"do_sample": True}, "beams": {"num_beams": 3}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(CASE, tmp_path_factory.mktemp("llama"))


def test_every_key_of_transformers_is_tried_and_known() -> None:
    names = {name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")}
    assert names <= set(VALUES)
    assert names <= {*SETTINGS, *NOT_IMPLEMENTED, *HARMLESS, "bos_token_id"}
    assert not set(NOT_IMPLEMENTED) & (set(SETTINGS) | set(HARMLESS))


def reference_answer(pair: Pair, settings: dict[str, Any]) -> Any:
    """Generate by transformers, with the settings of the file: ids, or scores of the first step with sampling."""
    pair.reference.generation_config = transformers.GenerationConfig(**settings)
    output = pair.reference.generate(
        torch.tensor([IDS]),
        attention_mask=torch.ones(1, len(IDS), dtype=torch.long),
        max_new_tokens=NEW,
        return_dict_in_generate=True,
        output_scores=True,
    )
    if settings.get("do_sample"):
        return output.scores[0][0].float().numpy()
    ends = np.ravel(settings.get("eos_token_id") or []).tolist()
    return pair.new_ids(output, len(IDS), ends)


def own_answer(folder: Path, settings: dict[str, Any]) -> Any:
    """Generate by Triform: ids, or scores of the first step with sampling."""
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model = triform.load(folder)
    batch = Batch.from_ids([IDS])
    if not settings.get("do_sample"):
        return model.generate(batch, max_new_tokens=NEW)
    model.generate(batch, max_new_tokens=NEW, seed=0)
    config = model.generation_config.updated({"max_new_tokens": NEW})
    logits = model.engine.to_numpy(model(batch, logits_at=np.array([len(IDS) - 1])).logits)
    return warp(process(logits, [GrowingSequence(list(IDS), len(IDS), Limit(num_tokens=NEW))], config), config)[0]


def own_answer_or_error(folder: Path, settings: dict[str, Any]) -> Any:
    """Generate by Triform, or return the message of an error."""
    try:
        return own_answer(folder, settings)
    except TriformError as error:
        return str(error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", VALUES)
def test_each_key_is_followed_or_refused(name: str, mode: str, pair: Pair) -> None:
    for value in VALUES[name]:
        settings = {**MODES[mode], name: value}
        found = own_answer_or_error(pair.model.checkpoint.folder, settings)
        if isinstance(found, str):
            assert name in found or (name == "stop_strings" and "no tokenizer.json" in found)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reference_answer(pair, settings)
        if settings.get("do_sample"):
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
            finite = np.isfinite(expected)
            shifts = found[finite] - expected[finite]
            np.testing.assert_allclose(shifts - shifts.mean(), 0, atol=1e-3)
        else:
            assert found == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0, "do_sample": True}, "temperature=0.0: expected a number greater than 0"),
        ({"typical_p": 0.9, "do_sample": True}, "typical_p = 0.9 changes the answers.*expected at least 1"),
        ({"penalty_alpha": 0.6}, "penalty_alpha = 0.6 changes the answers"),
        ({"num_beam_groups": 2, "num_beams": 2}, "num_beam_groups = 2 changes the answers"),
        ({"early_stopping": "soon", "num_beams": 2}, "early_stopping='soon': expected true, false or"),
        ({"token_healing": True}, "token_healing = True changes the answers"),
        ({"unheard_of": 1}, "Triform does not know these keys.*unheard_of = 1"),
    ],
)
def test_settings_with_an_effect_are_refused_by_name(settings: dict[str, Any], message: str, pair: Pair) -> None:
    with pytest.raises(UnsupportedModelError, match=f"(?s)generation_config.json: {message}"):
        own_answer(pair.model.checkpoint.folder, settings)


def test_a_setting_of_the_file_counts_once_the_caller_sets_another(pair: Pair) -> None:
    folder = pair.model.checkpoint.folder
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.0, "typical_p": 0.9, "top_k": 1}))
    model = triform.load(folder)
    batch = Batch.from_ids([IDS])
    greedy = model.generate(batch, max_new_tokens=4)
    with pytest.raises(UnsupportedModelError, match="temperature=0.0"):
        model.generate(batch, max_new_tokens=4, do_sample=True)
    with pytest.raises(UnsupportedModelError, match="typical_p = 0.9"):
        model.generate(batch, max_new_tokens=4, do_sample=True, temperature=1.0)
    (folder / "generation_config.json").write_text(json.dumps({"top_k": 1}))
    assert triform.load(folder).generate(batch, max_new_tokens=4, do_sample=True, seed=1) == greedy


def test_config_json_counts_only_without_the_other_file(pair: Pair) -> None:
    """As in transformers, end tokens included."""
    folder = pair.model.checkpoint.folder
    before = (folder / "config.json").read_text()
    plain = own_answer(folder, {})
    changes = {"repetition_penalty": 5.0, "eos_token_id": plain[0][1]}
    try:
        (folder / "config.json").write_text(json.dumps({**json.loads(before), **changes}))
        for has_file in (True, False):
            (folder / "generation_config.json").unlink(missing_ok=True)
            if has_file:
                (folder / "generation_config.json").write_text("{}")
            reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
            expected = reference.generate(torch.tensor([IDS]), max_new_tokens=NEW)[0].tolist()[len(IDS) :]
            assert triform.load(folder).generate(Batch.from_ids([IDS]), max_new_tokens=NEW) == [expected]
    finally:
        (folder / "config.json").write_text(before)


@pytest.mark.parametrize("length", [len(IDS), 3])
def test_a_max_length_below_the_prompt_is_refused_as_in_transformers(length: int, pair: Pair) -> None:
    folder = pair.model.checkpoint.folder
    (folder / "generation_config.json").write_text(json.dumps({"max_length": length}))
    pair.reference.generation_config = transformers.GenerationConfig(max_length=length)
    with pytest.raises(ValueError, match="max_length"):
        pair.reference.generate(torch.tensor([IDS]))
    with pytest.raises(InputError, match=f"max_length={length} of the checkpoint: expected more than a prompt's 6"):
        triform.load(folder).generate(Batch.from_ids([IDS]))
    assert len(triform.load(folder).generate(Batch.from_ids([IDS]), max_new_tokens=2)[0]) == 2


@pytest.mark.parametrize("at_context_end", ["error", "stop", "slide"])
def test_a_file_does_not_decide_how_long_a_call_runs(at_context_end: str, pair: Pair) -> None:
    folder = pair.model.checkpoint.folder
    settings = {"max_new_tokens": 2**31 - 1, "at_context_end": at_context_end}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    config = GenerationConfig.from_checkpoint(find_checkpoint(folder))
    for context, most in ((100, 100), (2**31 - 1, MAX_CHECKPOINT_TOKENS), (None, MAX_WITHOUT_CONTEXT)):
        assert config.limit(10, context).num_tokens <= most
    assert len(triform.load(folder).generate(Batch.from_ids([IDS]))[0]) <= 256  # the context
    for callers in (GenerationConfig(), config):
        assert callers.updated({"max_new_tokens": 200_000}).limit(10, None).num_tokens == 200_000


def test_an_encoder_decoder_without_a_context_ends(tmp_path: Path) -> None:
    make_checkpoint(Case(name="t5", model="T5ForConditionalGeneration", config=t5), tmp_path)
    content = json.loads((tmp_path / "generation_config.json").read_text())
    endless = {**content, "max_new_tokens": 2**31 - 1, "suppress_tokens": [1]}
    (tmp_path / "generation_config.json").write_text(json.dumps(endless))
    model = triform.load(tmp_path)
    config = model.generation_config.updated({})
    assert config.limit(1, model.spec.input_stack.context_length).num_tokens == MAX_WITHOUT_CONTEXT


def test_an_old_bart_forces_its_first_token(tmp_path: Path) -> None:
    make_checkpoint(
        Case(name="bart", model="BartForConditionalGeneration", config=of(transformers.BartConfig, BART)), tmp_path
    )
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("forced_bos_token_id", None)
    changes = {"force_bos_token_to_be_generated": True, "bos_token_id": 4, "decoder_start_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    expected = reference.generate(torch.tensor([IDS]), max_new_tokens=NEW)[0].tolist()[1:]
    assert expected[0] == 4
    assert triform.load(tmp_path).generate(Batch.from_ids([IDS]), max_new_tokens=NEW) == [expected]


@pytest.mark.parametrize("temperature", [1e-20, 1e-35, 1e-40, 1e-60, 5e-324])
@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_tiny_temperature_takes_the_best_token(temperature: float, num_beams: int, pair: Pair) -> None:
    folder = pair.model.checkpoint.folder
    (folder / "generation_config.json").write_text("{}")
    model = triform.load(folder)
    options = {"do_sample": True, "num_beams": num_beams, "seed": 1, "temperature": temperature}
    [cold] = model.generate(Batch.from_ids([IDS]), max_new_tokens=NEW, **options)
    assert num_beams > 1 or [cold] == model.generate(Batch.from_ids([IDS]), max_new_tokens=NEW)


@pytest.mark.parametrize("penalty", [5000.0, 1e308, -1e308])
def test_an_enormous_length_penalty(penalty: float, pair: Pair) -> None:
    folder = pair.model.checkpoint.folder
    (folder / "generation_config.json").write_text(json.dumps({"length_penalty": penalty, "num_beams": 3}))
    assert len(triform.load(folder).generate(Batch.from_ids([IDS]), max_new_tokens=NEW)[0]) == NEW
