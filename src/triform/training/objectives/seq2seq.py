"""Sequence to sequence: predicting a target from a source, by teacher forcing. Sutskever et al. 2014."""

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
from triform.training.objective import Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import TextReader, compute_logits, make_reader, pack, read_text, to_tensor
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Seq2SeqSettings(ObjectiveSettings):
    """Settings of seq2seq; `max_length` is of the source.

    Raises:
        InputError: a label_smoothing outside [0, 1).
    """

    max_target_length: int | None = setting(None, "Most tokens of a target; by default all that fit.")
    long_input: LongInput = setting(LongInput.ERROR, "Refuse a longer source or target (error), or cut it (truncate).")
    prefix: str = setting("", 'Text to put before each source, such as "translate English to German: ".')
    label_smoothing: float = setting(
        0.0, "Label smoothing: share of each target that is spread over the vocabulary. Szegedy et al. 2015, section 7."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing={self.label_smoothing}: expected at least 0 and less than 1.")


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """Source and target."""

    source: Integers
    """(n,)"""
    target: Integers
    """(m,), end token included."""


class Seq2Seq(Objective[Pair]):
    """Sequence to sequence by an encoder-decoder; the tokenizer may have a second vocabulary, for targets.

    Raises:
        WrongTaskError: the model is not an encoder-decoder with a language head.
        UnsupportedModelError: the checkpoint names no start token for its decoder.
    """

    name = "seq2seq"
    rows = "source, target"
    head = spec.LanguageHead
    task = "text2text-generation"
    settings_type = Seq2SeqSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: Seq2SeqSettings) -> None:
        if not isinstance(model.spec.form, spec.EncoderDecoder) or not isinstance(model.spec.head, spec.LanguageHead):
            raise WrongTaskError(
                f"{model.checkpoint.source} is not an encoder-decoder with a language head, which seq2seq needs."
            )
        start = GenerationConfig.from_checkpoint(model.checkpoint).decoder_start_token_id
        if start is None:
            raise UnsupportedModelError(
                f"{model.checkpoint.source}: nothing says what the decoder begins with. "
                "Put decoder_start_token_id into config.json."
            )
        self._sources = make_reader(model, tokenizer, max_length=settings.max_length, long_input=settings.long_input)
        self._targets = TextReader(
            tokenizer.of_answers,
            model.spec.output_stack.context_length,
            max_length=settings.max_target_length,
            long_input=settings.long_input,
            name="max_target_length",
        )
        self._start = start
        self._prefix = settings.prefix
        self._smoothing = settings.label_smoothing

    def examples(self, row: Row) -> list[Pair]:
        source = self._sources.read(row, self._prefix + read_text(row, "source"))
        target = self._targets.read(row, read_text(row, "target"))
        return [Pair(source.ids, target.ids)]

    def num_tokens(self, example: Pair) -> int:
        return len(example.source) + len(example.target)

    def loss(self, model: Model, examples: Sequence[Pair], rng: np.random.Generator) -> Loss:
        examples = sorted(examples, key=lambda pair: (len(pair.source), len(pair.target)))
        sources = pack([pair.source for pair in examples])
        fed = pack([np.concatenate([[self._start], pair.target[:-1]]) for pair in examples])
        targets = np.concatenate([pair.target for pair in examples])
        logits = compute_logits(model, sources, fed)
        total = functional.cross_entropy(
            logits, to_tensor(model, targets), reduction="sum", label_smoothing=self._smoothing
        )
        return Loss(total, len(targets))
