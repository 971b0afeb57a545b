"""Ends of a sequence: end tokens, texts, limits, the context, the clock."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import GPT2Config

import triform
from tests import checkpoints
from tests.generation.reference import Pair, pair
from tests.parity.cases import GPT2, llama, of
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch
from triform.errors import InputError, TokenizerError
from triform.generation import FinishReason
from triform.inputs import Tokenizer

__all__ = ["pair"]

CONTEXT = 64


@pytest.fixture(
    scope="module",
    params=[
        Case(name="gpt2", model="GPT2LMHeadModel", config=of(GPT2Config, GPT2)),
        Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(max_position_embeddings=CONTEXT)),
    ],
    ids=lambda case: case.name,
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> triform.Model:
    """Load a model with learned positions, limited to the context, and a model with rotary positions."""
    folder = tmp_path_factory.mktemp(request.param.name)
    make_checkpoint(request.param, folder)
    return triform.load(folder)


def test_an_end_token_or_the_limit(pair: Pair) -> None:
    batch = Batch.from_ids(random_ids(pair.case, lengths=[4] * 12))
    ends = list(range(0, 120, 4))
    reasons = set()
    for num_beams in (1, 2):
        for whole in pair.model.complete(batch, max_new_tokens=4, eos_token_id=ends, num_beams=num_beams):
            assert (whole.ids[-1] in ends) == (whole.finish_reason is FinishReason.STOP)
            assert whole.finish_reason is FinishReason.STOP or len(whole.ids) == 4
            reasons.add(whole.finish_reason)
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


def test_the_last_token_of_a_stream_says_why(pair: Pair) -> None:
    for token in pair.model.stream(Batch.from_ids([[5, 6], [8]]), max_new_tokens=4, eos_token_id=[]):
        reason = token.finish_reason
    assert reason is FinishReason.LENGTH


def test_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    steps = pair.model.stream(Batch.from_ids([[5, 6], [8]]), max_new_tokens=100, eos_token_id=[], max_time=1.5)
    seen = []
    for token in steps:
        seen.append((token.sequence, token.finish_reason))
        now += 0.3
    # A step has two tokens, and so takes 0.6 s: the fourth is the first to end after 1.5 s.
    assert seen == [(0, None), (1, None)] * 3 + [(0, FinishReason.TIME), (1, FinishReason.TIME)]


def test_beams_out_of_time(pair: Pair) -> None:
    batch = Batch.from_ids([[5], [6]])
    for whole in pair.model.complete(batch, max_new_tokens=90, eos_token_id=[], max_time=1e-9, num_beams=2):
        assert (len(whole.ids), whole.finish_reason) == (1, FinishReason.TIME)


def test_the_end_of_the_context_stops(model: triform.Model) -> None:
    prompts = [[5] * 60, [6] * 10]
    with pytest.raises(InputError, match="A prompt of 60 tokens and 20 new ones are more than .* context of 64"):
        model.generate(Batch.from_ids(prompts), max_new_tokens=20, eos_token_id=[])
    first, second = model.complete(Batch.from_ids(prompts), max_new_tokens=20, eos_token_id=[], at_context_end="stop")
    assert (len(first.ids), first.finish_reason) == (4, FinishReason.CONTEXT)
    assert (len(second.ids), second.finish_reason) == (20, FinishReason.LENGTH)


def test_the_end_of_the_context_slides(model: triform.Model) -> None:
    """Expect the tokens since the context was last full, from the last half of the full context on."""
    prompts = [[5, 9] * 30, [6, 7, 8]]
    batch = Batch.from_ids(prompts)
    settings: dict[str, Any] = {"max_new_tokens": 150, "eos_token_id": [], "at_context_end": "slide"}
    answers = model.generate(batch, **settings)
    assert answers == [model.generate(Batch.from_ids([prompt]), **settings)[0] for prompt in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert len(answer) == 150
        ids, begin = list(prompt), 0
        for token in answer:
            if len(ids) - begin > CONTEXT:
                begin = len(ids) - CONTEXT // 2
            logits = np.asarray(model(Batch.from_ids([ids[begin:]])).logits)[-1]
            assert logits.max() - logits[token] < 1e-4
            ids.append(token)
    beams = model.generate(batch, num_beams=2, **{**settings, "max_new_tokens": 80})
    assert [len(ids) for ids in beams] == [80, 80]


def test_a_model_of_two_stacks_does_not_slide(pair: Pair) -> None:
    if pair.is_decoder:
        pytest.skip("of two stacks alone")
    with pytest.raises(InputError, match='at_context_end="slide"'):
        pair.model.generate(Batch.from_ids([[5]]), at_context_end="slide")


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> tuple[triform.Model, Tokenizer]:
    folder: Path = checkpoints.llama("LlamaForCausalLM", tmp_path_factory.mktemp("talker"))
    model = triform.load(folder)
    return model, Tokenizer.from_checkpoint(model.checkpoint)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_stop_strings(talker: tuple[triform.Model, Tokenizer], num_beams: int) -> None:
    model, tokenizer = talker
    batch = Batch.from_ids([tokenizer.encode(["Once upon a time"])[0].ids.tolist()])
    settings: dict[str, Any] = {"max_new_tokens": 40, "eos_token_id": [], "num_beams": num_beams}
    [ids] = model.generate(batch, **settings)
    text = tokenizer.decode(ids, skip_special_tokens=False)
    stops = [text[begin : begin + 3] for begin in range(0, len(text) - 3, 5)]
    for stop in stops:
        [whole] = model.complete(batch, stop_strings=["no such text", stop], **settings)
        if num_beams == 2 and whole.finish_reason is FinishReason.LENGTH:
            continue  # another beam was better
        assert whole.finish_reason is FinishReason.STOP
        assert stop in tokenizer.decode(whole.ids, skip_special_tokens=False)
        # The text without the last token does not contain the stop text.
        assert stop not in tokenizer.decode(whole.ids[:-1], skip_special_tokens=False)
        if num_beams == 1:
            assert ids[: len(whole.ids)] == whole.ids


def test_stop_strings_need_a_tokenizer(pair: Pair) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer.json"):
        pair.model.generate(Batch.from_ids([[5]]), stop_strings="x")
