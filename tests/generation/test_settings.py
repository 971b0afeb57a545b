"""Settings of the checkpoint and of the caller: limits, order, and refusals."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import triform
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.errors import InputError, UnsupportedModelError
from triform.generation import FinishReason, GenerationConfig
from triform.generation.config import SETTINGS, Setting
from triform.generation.sequence import Limit
from triform.hub import find_checkpoint
from triform.tasks.generative.options import GenerationOptions

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
    # The third token of the first and the fifth of the second become end tokens.
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
    assert [len(ids) for ids in model.generate(PROMPTS, max_length=5)] == [2, 4, 3]
    configure(folder, max_length=8)
    # The file was read once.
    assert [len(ids) for ids in model.generate(PROMPTS)] == [4, 4, 4]
    assert [len(ids) for ids in triform.load(folder).generate(PROMPTS)] == [5, 7, 6]
    configure(folder)
    model = triform.load(folder)
    assert [len(ids) for ids in model.generate(Batch.from_ids([[5] * 250]))] == [6]
    with pytest.raises(
        InputError, match="prompt of 250 tokens and 7 new ones are more than the model's context of 256"
    ):
        model.generate(Batch.from_ids([[5] * 250]), max_new_tokens=7)
    with pytest.raises(InputError, match="max_new_tokens=0: expected a whole number of at least 1"):
        model.generate(PROMPTS, max_new_tokens=0)
    with pytest.raises(InputError, match="max_length=3: expected more than a prompt's 3 tokens"):
        model.generate(PROMPTS, max_length=3)


def test_what_is_not_implemented_is_refused(folder: Path) -> None:
    configure(folder, guidance_scale=2.0)
    with pytest.raises(UnsupportedModelError, match=r"guidance_scale = 2.0 changes the answers"):
        triform.load(folder).generate(PROMPTS)
    configure(folder, encoder_repetition_penalty=1.0, sequence_bias=[], num_beam_groups=1)
    model = triform.load(folder)
    model.generate(PROMPTS, max_new_tokens=2)
    with pytest.raises(InputError, match="guidance_scale is not implemented"):
        model.generate(PROMPTS, guidance_scale=2.0)


def test_settings_come_from_the_checkpoint_and_the_caller_goes_first(folder: Path) -> None:
    configure(folder)
    plain = triform.load(folder).generate(PROMPTS, max_new_tokens=10)
    penalized = triform.load(folder).generate(PROMPTS, max_new_tokens=10, repetition_penalty=2.0)
    assert plain != penalized
    configure(folder, repetition_penalty=2.0, suppress_tokens=None)
    assert triform.load(folder).generate(PROMPTS, max_new_tokens=10) == penalized
    assert triform.load(folder).generate(PROMPTS, max_new_tokens=10, repetition_penalty=1.0) == plain
    assert triform.load(folder).generate(PROMPTS, max_new_tokens=10, repetition_penalty=None) == penalized
    # Older checkpoints keep their settings in the config.
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"repetition_penalty": 2.0}))
    assert triform.load(folder).generate(PROMPTS, max_new_tokens=10) == penalized


def test_a_checkpoint_that_asks_for_sampling_gets_it(folder: Path) -> None:
    configure(folder, do_sample=True, temperature=0.8, top_p=0.95)
    model = triform.load(folder)
    drawn = model.generate(PROMPTS, max_new_tokens=10, seed=1)
    assert drawn == model.generate(PROMPTS, max_new_tokens=10, seed=1, do_sample=True, top_p=0.95)
    assert drawn != model.generate(PROMPTS, max_new_tokens=10, do_sample=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tempreature": 0.5}, "generate has no setting tempreature. It has max_new_tokens, "),
        ({"given": frozenset()}, "generate has no setting given"),
        ({"temperature": 0}, "temperature=0: expected a number greater than 0"),
        ({"temperature": True}, "temperature=True: expected a number"),
        ({"temperature": float("nan")}, "temperature=nan: expected a number"),
        ({"top_p": 0.0}, "top_p=0.0: expected a number greater than 0 and at most 1"),
        ({"top_p": 1.1}, "top_p=1.1: expected a number greater than 0 and at most 1"),
        ({"min_p": -0.1}, "min_p=-0.1: expected a number from 0 to 1"),
        ({"top_k": 2.5}, "top_k=2.5: expected a whole number of at least 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: expected a number from 1e-30 to 1e30"),
        ({"frequency_penalty": 2.5}, "frequency_penalty=2.5: expected a number from -2 to 2"),
        ({"presence_penalty": float("nan")}, "presence_penalty=nan: expected a number from -2 to 2"),
        ({"logit_bias": {5: 101}}, "logit_bias=.*: expected an object {id: number from -100 to 100}"),
        ({"logit_bias": {"a": 1}}, "logit_bias=.*: expected an object"),
        ({"logit_bias": {-1: 1}}, "logit_bias=.*: expected an object"),
        ({"logit_bias": {5: "much"}}, "logit_bias=.*: expected an object"),
        ({"logit_bias": {5: float("inf")}}, "logit_bias=.*: expected an object"),
        ({"logit_bias": {5: 1, "5": 2}}, "logit_bias=.*: expected an object"),
        ({"logit_bias": [[5, 1]]}, "logit_bias=.*: expected an object"),
        ({"eos_token_id": "</s>"}, "eos_token_id=.*: expected the id of a token, or a list of them"),
        ({"do_sample": 1}, "do_sample=1: expected true or false"),
        ({"stop_strings": ["a", ""]}, "stop_strings=.*: expected a text, or a list of them, none empty"),
        ({"bad_words_ids": [[1], []]}, "bad_words_ids=.*: expected a list of lists of token ids"),
        ({"max_time": 0}, "max_time=0: expected a number of seconds greater than 0"),
        ({"at_context_end": ["stop"]}, "at_context_end=.'stop'.: expected one of error, stop, slide"),
        ({"temperature": 10**400}, "temperature=10+: expected a number greater than 0"),
        ({"at_context_end": "roll"}, "at_context_end='roll': expected one of error, stop, slide"),
        ({"num_beams": 0}, "num_beams=0: expected a whole number of at least 1"),
        ({"num_beams": 2, "early_stopping": "always"}, 'expected true, false or "never"'),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3: expected at most num_beams=2"),
        ({"num_return_sequences": 2}, "num_return_sequences=2: expected at most num_beams=1"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5: expected at most max_new_tokens=4"),
        ({"top_p": 0.9, "temperature": 0.7}, "temperature, top_p: no effect without do_sample=True"),
        ({"length_penalty": 2.0}, "length_penalty: no effect without num_beams"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GenerationConfig().updated(settings)


def test_impossible_settings_of_a_checkpoint_name_the_file(folder: Path) -> None:
    configure(folder, top_p=7, do_sample=True)
    with pytest.raises(
        UnsupportedModelError, match=r"generation_config.json: top_p=7: expected .* correct it in a copy"
    ):
        triform.load(folder).generate(PROMPTS)


def test_settings_that_leave_no_token_are_said(folder: Path) -> None:
    with pytest.raises(InputError, match="leave no token to choose"):
        triform.load(folder).generate(PROMPTS, suppress_tokens=list(range(120)))
    with pytest.raises(InputError, match="leave no token to choose"):
        triform.load(folder).generate(PROMPTS, suppress_tokens=list(range(120)), num_beams=2)


def test_biases_of_tokens_outside_the_vocabulary_are_refused(folder: Path) -> None:
    model = triform.load(folder)
    size = model.spec.output_stack.vocab_size
    with pytest.raises(InputError, match=f"logit_bias: the id {size} is outside the vocabulary of {size} entries"):
        model.new_requests(PROMPTS, logit_bias={str(size): 1, 3: 1})
    forced = model.generate(PROMPTS, max_new_tokens=3, eos_token_id=[], logit_bias={"7": 100, 8: -100})
    assert forced == [[7, 7, 7]] * 3
    assert model.generate(PROMPTS, max_new_tokens=3, logit_bias={}) == model.generate(PROMPTS, max_new_tokens=3)


def test_the_limit_of_a_prompt() -> None:
    config = GenerationConfig()
    assert config.limit(10, None) == Limit(num_tokens=256)
    assert config.limit(10, 100) == Limit(num_tokens=90, reason=FinishReason.CONTEXT)
    assert config.updated({"max_length": 30}).limit(10, 100) == Limit(num_tokens=20)
    long = config.updated({"max_new_tokens": 200})
    with pytest.raises(InputError, match='ask for at most 90 new tokens, or set at_context_end to "stop" or "slide"'):
        long.limit(10, 100)
    assert long.updated({"at_context_end": "stop"}).limit(10, 100) == Limit(num_tokens=90, reason=FinishReason.CONTEXT)
    assert long.updated({"at_context_end": "slide"}).limit(10, 100) == Limit(num_tokens=200)


def test_the_start_token_is_named_in_the_error(tmp_path: Path) -> None:
    from tests.parity.cases import t5

    make_checkpoint(Case(name="t5", model="T5ForConditionalGeneration", config=t5), tmp_path)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / name).read_text())
        content.pop("decoder_start_token_id", None)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not say what its decoder begins with"):
        triform.load(tmp_path).generate(PROMPTS)
    assert GenerationConfig.from_checkpoint(find_checkpoint(tmp_path)).eos_token_id == (1,)


def documented(setting: Setting) -> str:
    """Return the line of a setting in docs/generation-settings.md."""
    default = "" if setting.default in (None, ()) else f"`{json.dumps(setting.default)}`"
    option = f"`--{setting.name.replace('_', '-')}`" if setting.is_option else ""
    needs = {None: "", "do_sample": " Needs `do_sample`.", "num_beams": " Needs `num_beams` above 1."}[setting.needs]
    return f"| `{setting.name}` | {default} | {setting.rule.expected} | {option} | {setting.help}{needs} |"


def test_the_docs_list_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "generation-settings.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert lines == [documented(setting) for setting in SETTINGS.values()]


def test_options_of_tasks_are_the_settings_that_say_so() -> None:
    options = {known.name: known for known in fields(GenerationOptions)}
    for name, setting in SETTINGS.items():
        if setting.is_option:
            assert options[name].metadata["help"] == setting.help
            assert options[name].default is None
    assert set(options) - set(SETTINGS) == {"long_input", "truncation_side", "token_budget", "generate_kwargs"}
