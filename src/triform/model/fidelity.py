"""Fidelity: how far a quantized model's outputs are from the original's, on the same text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.inputs import Batch, Tokenizer, cut_into_windows, pack_texts
from triform.model import Model
from triform.networks import EncoderDecoder, Output

Numbers = NDArray[np.float64]

MAX_TOKENS = 256
"""The most tokens of a window; longer text would make large logits."""

SAMPLE = (
    "The ferry leaves at half past seven, and whoever misses it waits until the evening.",
    "In 1869 Mendeleev left gaps in his table for elements that nobody had found yet.",
    "She put the letter back into the drawer, locked it, and gave the key to her brother.",
    "Heat the oil in a pan, add the onions, and stir until they are soft but not brown.",
    "The court ruled on Tuesday that the company must pay its former employees for unused leave.",
    "A matrix is invertible if and only if its determinant is different from zero.",
    "I was disappointed by the second half of the film, though the music was wonderful.",
    "Rain is expected in the north, with strong winds along the coast and snow above 900 metres.",
    "To reset the device, hold both buttons for ten seconds and wait until the light turns green.",
    "Whales are mammals: they breathe air, feed their young with milk and are warm-blooded.",
    "The committee will meet again in March to decide how the remaining money should be spent.",
    "Why do we remember some dreams for years and forget others before breakfast?",
)
"""Default texts for the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """Differences between the outputs of two models on the same text."""

    num_tokens: int
    mean_cosine: float
    """Mean cosine of the last hidden states, token by token."""
    worst_cosine: float
    """Lowest of these cosines."""
    divergence: float | None
    """KL(original ‖ other) of the predicted distributions, in nats per token; None without a language head."""
    agreement: float | None
    """Share of rows in which both models predict the same token; None without a language head."""
    perplexity_before: float | None
    """Perplexity of the text for the original; None unless the model is a decoder with a language head."""
    perplexity_after: float | None
    """Perplexity of the text for the other model."""


def compare_models(original: Model, other: Model, batches: Iterable[Batch]) -> Fidelity:
    """Run two models on the same batches and measure how their outputs differ.

    An encoder-decoder gets each batch as source and as target.

    Raises:
        InputError: a batch that the models cannot read.
        NonFiniteError: an output holds NaN or infinity.
    """
    cosines: list[float] = []
    divergences: list[float] = []
    agreements: list[bool] = []
    surprises: list[list[float]] = []
    for batch in batches:
        first, second = _read(original, batch), _read(other, batch)
        states = zip(first.last_hidden_state, second.last_hidden_state, strict=True)
        cosines += [_cosine(*_numbers(x, y)) for x, y in states]
        if not isinstance(original.spec.head, spec.LanguageHead):
            continue
        assert first.logits is not None
        assert second.logits is not None
        for row, logits in enumerate(zip(first.logits, second.logits, strict=True)):
            p, q = map(_log_probabilities, _numbers(*logits))
            divergences.append(float((np.exp(p) * (p - q)).sum()))
            agreements.append(bool(p.argmax() == q.argmax()))
            if isinstance(original.spec.form, spec.Decoder) and row + 1 < len(batch.ids):
                said = batch.ids[row + 1]
                surprises.append([-float(p[said]), -float(q[said])])
    before, after = np.exp(np.mean(surprises, axis=0)).tolist() if surprises else (None, None)
    return Fidelity(
        num_tokens=len(cosines),
        mean_cosine=float(np.mean(cosines)),
        worst_cosine=min(cosines),
        divergence=float(np.mean(divergences)) if divergences else None,
        agreement=float(np.mean(agreements)) if agreements else None,
        perplexity_before=before,
        perplexity_after=after,
    )


def make_batches(texts: Sequence[str], tokenizer: Tokenizer, model: Model) -> Iterator[Batch]:
    """Make a batch of each text, or of each window of a long text.

    Raises:
        InputError: a text without a token.
    """
    stacks = (model.spec.input_stack, model.spec.output_stack)
    max_length = min([MAX_TOKENS, *(stack.context_length for stack in stacks if stack.context_length)])
    for text in tokenizer.encode(texts):
        for window in cut_into_windows(text, max_length=max_length, overlap=0):
            yield pack_texts([window])


def num_parameter_bytes(model: Model) -> int:
    """Count the bytes of all parameters, scales included."""
    return sum(model.engine.stored(parameter).nbytes for parameter in model.parameters.values())


def _read(model: Model, batch: Batch) -> Output:
    """Run a model on a batch; the output's tensors are NumPy arrays, (T, hidden_size) and (T, vocab_size)."""
    output = model(batch, batch if isinstance(model.network, EncoderDecoder) else None)
    states, logits = output.last_hidden_state, output.logits
    to_numpy = model.engine.to_numpy
    return replace(output, last_hidden_state=to_numpy(states), logits=None if logits is None else to_numpy(logits))


def _numbers(*rows: NDArray[np.float32]) -> list[Numbers]:
    return [row.astype(np.float64) for row in rows]


def _cosine(x: Numbers, y: Numbers) -> float:
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _log_probabilities(logits: Numbers) -> Numbers:
    shifted: Numbers = logits - logits.max()
    return shifted - float(np.log(np.exp(shifted).sum()))
