"""A parity harness for all families: a tiny random model of `transformers`, and every way to run the model in Triform.

A new family or variant needs a `Case` in `cases.py`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

import triform
from triform import spec

TOLERANCE = 1e-5
"""max|Δ| relative to max(1, max|reference|): the design's promise."""

NEAR_TIE = 1e-4
"""Least difference of the two best logits; below, rounding may choose either, and the texts diverge."""

LENGTHS = (7, 1, 19, 33, 2)
"""Lengths of the sequences in a mixed batch, in tokens."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model to compare."""

    name: str
    model: str
    """Class of transformers."""
    config: Callable[[], Any]
    rewrite_config: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda config: config)
    """Turns the config.json that this version of transformers writes into an older layout."""
    prepare: Callable[[Any], None] = field(default=lambda model: None)
    """Changes the model after its random initialisation."""
    lengths: Sequence[int] = LENGTHS


def make_checkpoint(case: Case, folder: Path) -> Any:
    """Save a random model of the case, and return the model read back by `transformers`."""
    torch.manual_seed(0)
    model = getattr(transformers, case.model)(case.config())
    randomize(model)
    case.prepare(model)
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(case.rewrite_config(json.loads(path.read_text()))))
    return load_reference(case, folder)


def load_reference(case: Case, folder: Path) -> Any:
    """Load a checkpoint by `transformers`; fail on a missing or unexpected tensor."""
    model, info = getattr(transformers, case.model).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


def randomize(model: Any) -> None:
    """Fill a model with numbers that give every parameter an effect: norms near 1, biases not 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:  # sinusoids
                continue
            if parameter.dim() == 1:
                is_norm_weight = ("norm" in name.lower() or ".ln_" in name) and name.endswith("weight")
                parameter.normal_(1.0 if is_norm_weight else 0.0, 0.2)
            else:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)


def assert_close(actual: Any, expected: Any) -> None:
    """Check the largest difference against the tolerance, for arrays of NumPy or torch."""
    actual, expected = (np.asarray(x.detach() if isinstance(x, torch.Tensor) else x) for x in (actual, expected))
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected).max()
    assert difference <= TOLERANCE * max(1, np.abs(expected).max()), difference


def random_ids(case: Case, *, lengths: Sequence[int], seed: int = 1) -> list[list[int]]:
    """Draw sequences of ids without special tokens."""
    vocab_size = case.config().vocab_size
    random = np.random.default_rng(seed)
    return [random.integers(3, vocab_size, length).tolist() for length in lengths]


def random_inputs(
    case: Case, model: triform.Model, *, lengths: Sequence[int] | None = None
) -> tuple[list[list[int]], list[list[int]] | None]:
    """Draw inputs for a model: sources, and targets if the model reads targets."""
    lengths = case.lengths if lengths is None else lengths
    sources = random_ids(case, lengths=lengths)
    if isinstance(model.spec.head, spec.SequenceHead) and isinstance(model.spec.head.pooling, spec.LastOf):
        for source in sources:
            # The pooled token occurs once or twice, with more tokens after the last.
            source[len(source) // 3] = source[len(source) // 2] = model.spec.head.pooling.token
    if not isinstance(model.spec.form, spec.EncoderDecoder) or model.spec.form.target is not None:
        return sources, None
    # The lengths of the targets are independent of the lengths of the sources.
    return sources, random_ids(case, lengths=lengths[::-1], seed=2)


@dataclass
class Reference:
    """The outputs of `transformers` for one sequence alone."""

    hidden_states: list[NDArray[np.float32]]
    logits: NDArray[np.float32] | None
    encoder_hidden_states: list[NDArray[np.float32]] | None = None


def run_reference(model: Any, source: list[int], target: list[int] | None) -> Reference:
    """Run one sequence without padding."""
    arguments = {"input_ids": torch.tensor([source])}
    if target is not None:
        arguments["decoder_input_ids"] = torch.tensor([target])
    with torch.no_grad():
        output = model(**arguments, output_hidden_states=True)
    is_both = "encoder_last_hidden_state" in output
    states = output.decoder_hidden_states if is_both else output.hidden_states
    logits = getattr(output, "logits", None)
    if hasattr(output, "start_logits"):
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
    return Reference(
        hidden_states=[state[0].numpy() for state in states],
        logits=None if logits is None else logits[0].numpy(),
        encoder_hidden_states=[s[0].numpy() for s in output.encoder_hidden_states] if is_both else None,
    )


def compare(model: triform.Model, reference: Any, sources: list[list[int]], targets: list[list[int]] | None) -> None:
    """Run sequences as one packed batch, and compare each with the reference model on the sequence alone."""
    batch = triform.Batch.from_ids(sources)
    target = None if targets is None else triform.Batch.from_ids(targets)
    output = model(batch, target, hidden_states=True)
    assert output.hidden_states is not None
    for index, source in enumerate(sources):
        expected = run_reference(reference, source, None if targets is None else targets[index])
        begin, end = output.spans.pairs()[index]
        assert len(output.hidden_states) == len(expected.hidden_states)
        for actual, states in zip(output.hidden_states, expected.hidden_states, strict=True):
            assert_close(actual[begin:end], states)
        assert_close(output.split("last_hidden_state")[index], expected.hidden_states[-1])
        if expected.encoder_hidden_states is not None:
            assert output.encoder is not None
            assert output.encoder.hidden_states is not None
            begin, end = output.encoder.spans.pairs()[index]
            for actual, states in zip(output.encoder.hidden_states, expected.encoder_hidden_states, strict=True):
                assert_close(actual[begin:end], states)
        if expected.logits is not None:
            logits = output.split("logits")[index]
            is_sequence_level = isinstance(model.spec.head, spec.SequenceHead)
            assert_close(logits[0] if is_sequence_level else logits, expected.logits)
        else:
            assert output.logits is None


def compare_greedy(generated: list[int], expected: list[int], logits: list[NDArray[np.float32]]) -> None:
    """Compare token for token, up to the first step with a near tie."""
    for step, scores in enumerate(logits):
        best = np.sort(scores)[-2:]
        if best[1] - best[0] < NEAR_TIE:
            return
        assert generated[step] == expected[step], f"step {step}"
        if step + 1 == len(expected):
            assert len(generated) == len(expected)
            return
