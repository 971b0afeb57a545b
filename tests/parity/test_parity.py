"""Every family and variant against `transformers`, in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import triform
from tests.parity.cases import CASES
from tests.parity.harness import (
    Case,
    assert_close,
    compare,
    compare_greedy,
    load_reference,
    make_checkpoint,
    random_ids,
    random_inputs,
)
from triform import spec

CAUSAL = ("Llama", "GPT2", "Mistral", "Qwen")
ENCODER_DECODERS = ("T5Model", "T5ForConditional", "BartModel", "BartForConditional", "Marian")
DECODERS = [case for case in CASES if case.model.startswith((*CAUSAL, *ENCODER_DECODERS))]
GENERATORS = [case for case in CASES if case.model.endswith(("LM", "ConditionalGeneration", "LMHeadModel", "MTModel"))]
GENERATORS = [case for case in GENERATORS if "Masked" not in case.model]
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(case) → (folder, reference model, ours), each made once."""
    made: dict[str, tuple[Path, Any, triform.Model]] = {}

    def load(case: Case) -> tuple[Path, Any, triform.Model]:
        if case.name not in made:
            folder = tmp_path_factory.mktemp(case.name)
            made[case.name] = folder, make_checkpoint(case, folder), triform.load(folder)
        return made[case.name]

    return load


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alone(case: Case, loaded: Any) -> None:
    _, reference, model = loaded(case)
    sources, targets = random_inputs(case, model)
    for index, source in enumerate(sources):
        compare(model, reference, [source], targets and [targets[index]])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_a_mixed_batch(case: Case, loaded: Any) -> None:
    _, reference, model = loaded(case)
    sources, targets = random_inputs(case, model)
    compare(model, reference, sources, targets)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_padding_inside_a_text(case: Case, loaded: Any) -> None:
    """The id of the padding is a token as any other to some models, and is skipped by heads or positions of others."""
    _, reference, model = loaded(case)
    sources, targets = random_inputs(case, model)
    padding = reference.config.pad_token_id
    padding = 0 if padding is None else padding
    ended = [[*source, padding, padding] for source in sources]
    inside = [[source[0], padding, *source[1:]] for source in sources]
    begun = [[padding, *source] for source in sources]
    for changed in (ended, inside, begun):
        compare(model, reference, changed, targets)
    if not (isinstance(model.spec.head, spec.SequenceHead) and isinstance(model.spec.head.pooling, spec.LastOf)):
        compare(model, reference, [[padding] * 3 for _ in sources], targets)


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
def test_token_by_token_through_the_cache(case: Case, loaded: Any) -> None:
    _, _, model = loaded(case)
    sources, targets = random_inputs(case, model)
    sequences = targets or sources
    whole = model(triform.Batch.from_ids(sources), targets and triform.Batch.from_ids(targets))
    states = whole.split("last_hidden_state")
    memory = model.encode(triform.Batch.from_ids(sources)) if targets else None
    cache = model.new_cache(len(sequences))
    # All sequences read the prompts at once, then one token at a time; finished sequences leave.
    first = [max(1, len(sequence) // 2) for sequence in sequences]
    active = list(range(len(sequences)))
    step = [sequence[:length] for sequence, length in zip(sequences, first, strict=True)]
    done = [0] * len(sequences)
    while active:
        batch = triform.Batch.from_ids(step)
        output = model(batch, cache=cache) if memory is None else model(memory, batch, cache=cache)
        for index, actual in zip(active, output.split("last_hidden_state"), strict=True):
            assert_close(actual, states[index][done[index] : done[index] + len(actual)])
            done[index] += len(actual)
        going = [place for place, index in enumerate(active) if done[index] < len(sequences[index])]
        active = [active[place] for place in going]
        cache.keep(np.array(going, np.int64))
        memory = memory and memory.select(np.array(going, np.int64))
        step = [sequences[index][done[index] : done[index] + 1] for index in active]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_export_round_trip(case: Case, loaded: Any, tmp_path: Path) -> None:
    _, reference, model = loaded(case)
    sources, targets = random_inputs(case, model)
    model.save(tmp_path)
    again = triform.load(tmp_path)
    assert again.spec == model.spec
    compare(again, load_reference(case, tmp_path), sources, targets)
    compare(again, reference, sources, targets)


@pytest.mark.parametrize("case", GENERATORS, ids=lambda case: case.name)
def test_greedy_generation_of_unequal_prompts(case: Case, loaded: Any) -> None:
    _, reference, model = loaded(case)
    prompts = random_ids(case, lengths=(5, 1, 17, 9), seed=3)
    generated = model.generate(triform.Batch.from_ids(prompts), max_new_tokens=NEW_TOKENS)
    longest = max(map(len, prompts))
    is_decoder = isinstance(model.spec.form, spec.Decoder)
    # A decoder is padded on the left, so that its prompts end together; an encoder on the right.
    padding = [[0] * (longest - len(prompt)) for prompt in prompts]
    rows = [pad + prompt if is_decoder else prompt + pad for pad, prompt in zip(padding, prompts, strict=True)]
    mask = [
        [0] * len(pad) + [1] * len(prompt) if is_decoder else [1] * len(prompt) + [0] * len(pad)
        for pad, prompt in zip(padding, prompts, strict=True)
    ]
    expected = reference.generate(
        input_ids=torch.tensor(rows),
        attention_mask=torch.tensor(mask),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    start = longest if is_decoder else 1
    end_token = reference.generation_config.eos_token_id
    for index, actual in enumerate(generated):
        ids = expected.sequences[index, start:].tolist()
        ids = ids[: ids.index(end_token) + 1] if end_token in ids else ids
        compare_greedy(actual, ids, [step[index].numpy() for step in expected.logits])
