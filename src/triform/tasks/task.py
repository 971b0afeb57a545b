"""What all tasks share: human input in, human answer out, in three steps that each task spells out."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, get_type_hints

from triform import spec
from triform.errors import InputError, TruncationWarning, WrongTaskError, shown
from triform.inputs import Batch, EncodedText, LongInput, Tokenizer
from triform.inputs.text.backend import Side, Text
from triform.model import Model, load
from triform.tasks.text_input import Fields

Tensors = TypeVar("Tensors")
Answer = TypeVar("Answer")


def option(default: Any, help: str, *, minimum: int | None = None, choices: Sequence[StrEnum] = ()) -> Any:
    """A field of a task's options, with the help that the command line shows.

    `minimum` is for whole numbers, `choices` for an enum of which the task takes some values only.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "choices": choices})


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What can be set for a whole pipeline, or for one call."""

    long_input: LongInput = option(
        LongInput.ERROR,
        "Refuse text longer than the model can read (error), or cut it (truncate).",
        choices=(LongInput.ERROR, LongInput.TRUNCATE),
    )
    token_budget: int = option(2048, "Most tokens that go through the model at once; more need more memory.", minimum=1)


ELSEWHERE: Mapping[str, str] = {
    "truncation": 'long_input="truncate"',
    "padding": "nothing: no text is padded here",
    "batch_size": "token_budget, which counts tokens",
    "device": 'engine="torch:cuda", or another device of torch',
    "device_map": 'engine="torch:cuda", or another device of torch',
    "torch_dtype": "dtype",
    "max_length": "max_new_tokens, or generate_kwargs",
    "min_length": "min_new_tokens, or generate_kwargs",
    "stop_strings": "stop",
    "return_all_scores": "top_k=None",
    "grouped_entities": 'aggregation_strategy="simple"',
}
"""What options of the field's pipelines are called here."""


class Task(ABC, Generic[Tensors, Answer]):
    """A model, its tokenizer, and the way from what a person says to what a person understands.

    Calling a task with one input gives one answer, with a list all answers, with any other iterable an iterator that
    reads and answers piece by piece.
    """

    name: ClassVar[str]
    """As `pipeline` and the command line know it."""
    summary: ClassVar[str]
    """One line for people."""
    example: ClassVar[str]
    """Input for the command line's help."""
    example_options: ClassVar[str] = ""
    """Options that the example cannot do without."""
    fields: ClassVar[Fields] = {}
    """What each input holds, where inputs are objects and not plain texts."""
    options_type: ClassVar[type[Options]] = Options
    head: ClassVar[type[spec.Head] | None]
    """What the model must have on top; None for the backbone alone."""
    forms: ClassVar[tuple[type[spec.Encoder] | type[spec.Decoder] | type[spec.EncoderDecoder], ...]]
    """Which forms can do it."""
    chunk: ClassVar[int] = 256
    """Inputs that are tokenized together; a stream is never read further ahead."""

    def __init__(self, model: Model, tokenizer: Tokenizer, /, **options: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.options = self._with(self.options_type(), options)
        self._check_model()
        tokenizer.check_fits(model.spec.input_stack.embedding.vocab_size)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        engine: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        adapter: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load a model and its tokenizer for this task; arguments as in `triform.load`."""
        with_head = cls.head is not None
        loaded = load(model, engine=engine, dtype=dtype, revision=revision, adapter=adapter, with_head=with_head)
        return cls(loaded, Tokenizer.from_checkpoint(loaded.checkpoint), **options)

    @abstractmethod
    def preprocess(self, inputs: Sequence[Any], options: Any) -> Batch:
        """Human input → Batch."""

    @abstractmethod
    def forward(self, batch: Batch, options: Any) -> Tensors:
        """Batch → tensors."""

    @abstractmethod
    def postprocess(self, batch: Batch, tensors: Tensors, options: Any) -> list[Answer]:
        """Tensors → human answers, one for each sequence of the batch."""

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer one input, a list of them, or an iterable piece by piece."""
        chosen = self._with(self.options, options)
        if isinstance(inputs, str | Mapping):
            return self.one(inputs, next(self._stream([inputs], chosen)), chosen)
        if isinstance(inputs, list | tuple):
            return self.many(list(self._stream(inputs, chosen)))
        if isinstance(inputs, Iterable):
            return self._stream(inputs, chosen)
        raise InputError(f"{self.name}: expected text, a list or an iterable of texts, got {type(inputs).__name__}.")

    def one(self, given: Any, answer: Answer, options: Any) -> Any:
        """The answer to a lone input, in the shape of the field's pipelines."""
        return answer

    def many(self, answers: list[Answer]) -> Any:
        """The answers to a list of inputs."""
        return answers

    def _stream(self, inputs: Iterable[Any], options: Any) -> Iterator[Answer]:
        remaining = iter(inputs)
        while chunk := list(islice(remaining, self.chunk)):
            for batch in self.batches(chunk, options):
                yield from self.answers(batch, options)

    def batches(self, inputs: Sequence[Any], options: Any) -> Iterator[Batch]:
        """Up to `chunk` inputs → consecutive batches of some of them, within the token budget."""
        yield from self.preprocess(inputs, options).split(options.token_budget)

    def num_inputs(self, batch: Batch) -> int:
        """How many inputs one of `batches` is for."""
        return len(batch)

    def answers(self, batch: Batch, options: Any) -> list[Answer]:
        """The answers to the inputs of one batch."""
        return self.postprocess(batch, self.forward(batch, options), options)

    def encode(
        self,
        texts: Sequence[Text],
        options: Any,
        *,
        max_length: int | None = None,
        side: Side | None = None,
        only_first: bool = False,
    ) -> Batch:
        """Texts → Batch, within what the model can read; `side` and `only_first` as `Tokenizer.encode` has them.

        Warns:
            TruncationWarning: some were cut, as `long_input="truncate"` allows.
        """
        limit = self.limit(max_length)
        encoded = self.tokenizer.encode(
            texts, max_length=limit, long_input=options.long_input, side=side, only_first=only_first
        )
        dropped = [text.dropped for text in encoded if text.dropped]
        if dropped:
            warnings.warn(
                f"{len(dropped)} of {len(encoded)} texts were longer than {limit} tokens; "
                f"{sum(dropped)} tokens were not read.",
                TruncationWarning,
                stacklevel=2,
            )
        return Batch.from_texts(encoded)

    def limit(self, own: int | None = None) -> int | None:
        """The most tokens of one sequence: the least of what model, tokenizer and the task's `own` limit allow."""
        limits = [self.model.spec.input_stack.context_length, self.tokenizer.max_length, own]
        return min((limit for limit in limits if limit is not None), default=None)

    def check_options(self, options: Any) -> None:
        """Find out before the first input whether the options can be followed at all.

        Raises:
            InputError: they cannot.
        """

    def _with(self, options: Options, changes: Mapping[str, Any]) -> Options:
        own = {known.name: known for known in fields(self.options_type)}
        unknown = sorted(set(changes) - set(own))
        if unknown:
            hints = "".join(f" For {name} take {ELSEWHERE[name]}." for name in unknown if name in ELSEWHERE)
            raise InputError(f"{self.name} has no option {', '.join(unknown)}.{hints} It has {', '.join(own)}.")
        kinds = get_type_hints(self.options_type) if changes else {}
        return replace(options, **{name: _checked(own[name], kinds[name], value) for name, value in changes.items()})

    def _check_model(self) -> None:
        model = self.model.spec
        fits = self.head is None or isinstance(model.head, self.head)
        if fits and isinstance(model.form, self.forms):
            return
        has = type(model.head).__name__ if model.head is not None else "no head"
        needs = " or ".join(form.__name__ for form in self.forms) + (f" with {self.head.__name__}" if self.head else "")
        raise WrongTaskError(
            f"{self.model.checkpoint.source} cannot do {self.name}: it is {type(model.form).__name__} with {has} "
            f"(architectures: {self.model.blueprint.config.get('architectures')}); the task needs {needs}. "
            "Choose a model that was trained for the task."
        )


def dropped_from(text: EncodedText) -> dict[str, int]:
    """What an answer adds where its text was cut: `{"dropped_tokens": …}`, how many; nothing where all was read."""
    return {"dropped_tokens": text.dropped} if text.dropped else {}


def _checked(option: Field[Any], kind: Any, value: Any) -> Any:
    """The value of an option of this type, an enum's by its name.

    Raises:
        InputError: it is of another type, not one of the enum's that the task takes, or a number that is too small.
    """
    choices = option.metadata["choices"] or (tuple(type(option.default)) if isinstance(option.default, StrEnum) else ())
    if choices and not (value is None and option.default is None):
        if not isinstance(value, str) or value not in choices:
            given = str(value) if isinstance(value, str) else value
            raise InputError(f"{option.name}={shown(given)}: expected one of {', '.join(choices)}.")
        return type(choices[0])(value)
    minimum = option.metadata["minimum"]
    if isinstance(value, Integral) and abs(int(value)) >= 2**62:  # sums with it stay within 64 bits
        raise InputError(f"{option.name}={shown(value)}: expected a number nearer to 0.")
    kinds = set(get_args(kind)) if isinstance(kind, UnionType) else {kind}
    fits = any(KINDS[one][1](value) for one in kinds)
    if not fits or (minimum is not None and value is not None and value < minimum):
        least = "" if minimum is None else f" of at least {minimum}"
        expected = " or ".join(words + least * (one is int) for one, (words, _) in KINDS.items() if one in kinds)
        raise InputError(f"{option.name}={shown(value)}: expected {expected}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)),
    float: ("a number", _is_number),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    str: ("a text", lambda value: isinstance(value, str)),
    Sequence[str]: (
        "a list of texts",
        lambda value: isinstance(value, list | tuple) and all(isinstance(text, str) for text in value),
    ),
    Mapping[str, Any]: ("an object", lambda value: isinstance(value, Mapping)),
    NoneType: ("None", lambda value: value is None),
}
"""The types that options have: in words, and whether a value is of them."""
