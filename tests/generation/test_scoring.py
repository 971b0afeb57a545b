"""Log-probabilities of given sequences: against the whole forward pass, in any batch, in parts of bounded memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MistralConfig

import triform
from tests.generation.reference import Pair, pair
from tests.parity.cases import LLAMA, of
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.generation import scoring

__all__ = ["pair"]

LENGTHS = (1, 2, 40, 7, 133, 1, 64)


@pytest.fixture
def decoder(pair: Pair) -> Pair:
    if not pair.is_decoder:
        pytest.skip("an encoder-decoder reads two sequences")
    return pair


def test_equal_to_transformers(decoder: Pair) -> None:
    sequences = random_ids(decoder.case, lengths=LENGTHS)
    scores = decoder.model.score(Batch.from_ids(sequences))
    for ids, own in zip(sequences, scores, strict=True):
        assert own.log_probabilities[0] is None
        assert own.alternatives == [()] * len(ids)
        with torch.no_grad():
            known = torch.log_softmax(decoder.reference(torch.tensor([ids])).logits[0], -1).numpy()
        expected = known[np.arange(len(ids) - 1), ids[1:]]
        np.testing.assert_allclose(np.array(own.log_probabilities[1:], float), expected, atol=2e-5)


@pytest.mark.parametrize("num_rows", [1, 7, 32, 100, 2048])
def test_the_same_bits_alone_in_a_batch_and_in_parts(
    decoder: Pair, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = random_ids(decoder.case, lengths=LENGTHS)
    alone = [decoder.model.score(Batch.from_ids([ids]), num_alternatives=3)[0] for ids in sequences]
    monkeypatch.setattr(scoring, "MAX_ROWS", num_rows)
    assert decoder.model.score(Batch.from_ids(sequences), num_alternatives=3) == alone


def test_alternatives_are_the_most_probable_tokens(decoder: Pair) -> None:
    [ids] = random_ids(decoder.case, lengths=(30,))
    [own] = decoder.model.score(Batch.from_ids([ids]), num_alternatives=5)
    known = decoder.model.engine.log_softmax(np.asarray(decoder.model(Batch.from_ids([ids])).logits))
    assert own.log_probabilities[1:] == known[np.arange(29), ids[1:]].tolist()
    for row, found in zip(known, own.alternatives[1:], strict=False):
        best = np.argsort(-row, kind="stable")[:5]
        assert found == tuple(zip(best.tolist(), row[best].tolist(), strict=True))


def test_logits_of_a_pass_have_bounded_memory(decoder: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    best = decoder.model.engine.log_softmax

    def watched(x: Any) -> Any:
        seen.append(x.size)
        return best(x)

    monkeypatch.setattr(decoder.model.engine, "log_softmax", watched)
    monkeypatch.setattr(scoring, "MAX_LOGITS", 4096)
    decoder.model.score(Batch.from_ids(random_ids(decoder.case, lengths=LENGTHS)))
    assert len(seen) > 3
    assert max(seen) <= 4096


def test_the_scores_of_an_answer_are_its_log_probabilities(decoder: Pair) -> None:
    prompt = [5, 6, 7]
    [whole] = decoder.model.complete(Batch.from_ids([prompt]), max_new_tokens=20, log_probabilities=True)
    [own] = decoder.model.score(Batch.from_ids([prompt + whole.ids]))
    assert own.log_probabilities[3:] == whole.log_probabilities


def test_what_cannot_be_scored_is_refused(decoder: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    size = decoder.model.spec.output_stack.vocab_size
    with pytest.raises(InputError, match=f"{size}"):
        decoder.model.score(Batch.from_ids([[5, size]]))
    with pytest.raises(InputError, match="more than the model's context of 256"):
        decoder.model.score(Batch.from_ids([[5] * 257]))
    with pytest.raises(InputError, match="num_alternatives=21"):
        decoder.model.score(Batch.from_ids([[5]]), num_alternatives=21)
    monkeypatch.setattr(decoder.model.engine, "all_finite", lambda x: False)
    with pytest.raises(NonFiniteError):
        decoder.model.score(Batch.from_ids([[5, 6]]))


def test_an_encoder_decoder_has_no_scores(pair: Pair) -> None:
    if pair.is_decoder:
        pytest.skip("a decoder has")
    with pytest.raises(WrongTaskError, match="score reads one sequence"):
        pair.model.score(Batch.from_ids([[5]]))


def test_a_sliding_window_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = of(MistralConfig, LLAMA, sliding_window=16)
    case = Case(name="mistral", model="MistralForCausalLM", config=config)
    make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path)
    batch = Batch.from_ids(random_ids(case, lengths=(90,)))
    whole = model.score(batch)
    monkeypatch.setattr(scoring, "MAX_ROWS", 13)
    assert model.score(batch) == whole
