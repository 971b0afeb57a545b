"""Sequence to sequence: a target from its source, each token from the true ones before it. Sutskever et al. 2014."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, UnsupportedModelError, WrongTaskError
from triform.generation import GenerationConfig
from triform.inputs import LongInput, Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import TextReader, logits_of, pack, reader_of, tensor, text_in


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A source and its target."""

    source: Integers
    """(n,)"""
    target: Integers
    """(m,) as it is to be said, its end included."""


class Seq2Seq:
    """Rows with a `source` and a `target`.

    Arguments:
        model: an encoder-decoder that writes.
        tokenizer: of the model; it may have another vocabulary for targets.
        max_length, long_input: of the source, see `reader_of`.
        max_target_length: the most tokens of a target; without it as many as fit.
        prefix: put before each source, such as "translate English to German: ".
        label_smoothing: how much of each target is spread over the vocabulary. Szegedy et al. 2015, section 7.

    Raises:
        WrongTaskError: the model does not write.
        UnsupportedModelError: nothing says what its decoder begins with.
    """

    head = spec.LanguageHead

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        max_target_length: int | None = None,
        long_input: str = LongInput.ERROR,
        prefix: str = "",
        label_smoothing: float = 0.0,
    ) -> None:
        if not isinstance(model.spec.form, spec.EncoderDecoder) or not isinstance(model.spec.head, spec.LanguageHead):
            raise WrongTaskError(
                f"{model.checkpoint.source} is no encoder-decoder that writes, which sequence to sequence needs."
            )
        start = GenerationConfig.read(model.checkpoint).decoder_start_token_id
        if start is None:
            raise UnsupportedModelError(
                f"{model.checkpoint.source}: nothing says what the decoder begins with. "
                "Put decoder_start_token_id into config.json."
            )
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing={label_smoothing}: expected at least 0 and less than 1.")
        self._sources = reader_of(model, tokenizer, max_length=max_length, long_input=long_input)
        self._targets = TextReader(
            tokenizer.of_answers,
            model.spec.output_stack.context_length,
            max_length=max_target_length,
            long_input=long_input,
            name="max_target_length",
        )
        self._start = start
        self._prefix = prefix
        self._smoothing = label_smoothing

    def examples(self, row: Row) -> list[Pair]:
        source = self._sources.read(row, self._prefix + text_in(row, "source"))
        target = self._targets.read(row, text_in(row, "target"))
        return [Pair(source.ids, target.ids)]

    def tokens(self, example: Pair) -> int:
        return len(example.source) + len(example.target)

    def loss(self, model: Model, examples: Sequence[Pair], rng: np.random.Generator) -> Loss:
        examples = sorted(examples, key=lambda pair: (len(pair.source), len(pair.target)))
        sources = pack([pair.source for pair in examples])
        fed = pack([np.concatenate([[self._start], pair.target[:-1]]) for pair in examples])
        targets = np.concatenate([pair.target for pair in examples])
        logits = logits_of(model, sources, fed)
        total = functional.cross_entropy(
            logits, tensor(model, targets), reduction="sum", label_smoothing=self._smoothing
        )
        return Loss(total, len(targets))
