"""Tasks that read text: a tokenizer, the policy for long text, and the forms in which people give texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from triform.errors import ContextLengthError, InputError, shown
from triform.inputs import Batch, EncodedText, LongInput, Tokenizer, cut_into_windows, pack_texts
from triform.inputs.text.backend import Side, Text
from triform.model import Model
from triform.tasks.options import Options, option
from triform.tasks.task import Answer, Fields, Task, Tensors


class TruncationSide(StrEnum):
    """The end of a text that is cut."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions(Options):
    """Options of tasks that read text whole, or cut it where the caller allows that."""

    long_input: LongInput = option(
        LongInput.ERROR,
        "Refuse text longer than the model can read (error), or cut it (truncate).",
        choices=(LongInput.ERROR, LongInput.TRUNCATE),
    )
    truncation_side: TruncationSide | None = option(
        None,
        "The end of a text that is cut; by default as the tokenizer's files or the task say.",
        choices=tuple(TruncationSide),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowOptions(Options):
    """Options of tasks that read long text in windows, and never cut it."""

    long_input: LongInput = option(
        LongInput.WINDOW,
        "Read text longer than the model can in windows that overlap, or refuse it (error).",
        choices=(LongInput.WINDOW, LongInput.ERROR),
    )
    stride: int | None = option(
        None, "Tokens that the windows of a long text share; by default 128, or half a window.", minimum=0
    )


class TextTask(Task[Tensors, Answer]):
    """A task whose inputs are texts, or objects of texts."""

    input_name = "text"
    options_type: ClassVar[type[Options]] = TextOptions
    processor_type = Tokenizer

    processor: Tokenizer

    def __init__(self, model: Model, tokenizer: Tokenizer, /, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        tokenizer.check_fits(model.spec.input_stack.vocab_size)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.processor

    def is_one(self, inputs: Any, options: Any) -> bool:
        return isinstance(inputs, str | Mapping)

    def encode(
        self,
        texts: Sequence[Text],
        options: Any,
        *,
        max_length: int | None = None,
        side: Side | None = None,
        only_first: bool = False,
    ) -> Batch:
        """Texts → Batch, one sequence for each text, cut where `options.long_input` allows it.

        A text that was cut counts its `dropped` tokens, of which the runner warns.

        Arguments:
            texts: strings or pairs of strings.
            options: of the task.
            max_length: the task's own limit, in tokens, beside the limits of the model and the tokenizer.
            side: the end that is cut where the options name none; by default as the tokenizer's files say.
            only_first: of a pair, cut the first text alone.

        Raises:
            InputError: a text is too long, or has no token.
        """
        chosen: TruncationSide | None = options.truncation_side
        encoded = self.tokenizer.encode(
            texts,
            max_length=self.limit(max_length),
            long_input=options.long_input,
            side=side if chosen is None else chosen.value,
            only_first=only_first,
        )
        return pack_texts(encoded)

    def encode_windows(self, texts: Sequence[Text], options: WindowOptions) -> Batch:
        """Texts → Batch of their overlapping windows; a text that fits is one window.

        Raises:
            InputError: a text does not fit and `long_input` refuses windows, or `stride` is too large.
        """
        limit = self.limit()
        encoded = self.tokenizer.encode(texts)
        if options.long_input is LongInput.ERROR and limit is not None:
            for number, text in enumerate(encoded):
                if len(text.ids) > limit:
                    raise ContextLengthError(
                        f"Text {number} has {len(text.ids)} tokens, more than the {limit} that fit: "
                        f'{text.text[:60]!r}. Shorten it, or let it be read in parts with long_input="window".',
                        len(text.ids),
                        limit,
                    )
        try:
            windows = [cut_into_windows(text, max_length=limit, overlap=options.stride) for text in encoded]
        except InputError as error:
            raise InputError(f"stride={options.stride}: {error}") from error
        return pack_texts([window for own in windows for window in own])

    def limit(self, own: int | None = None) -> int | None:
        """The most tokens of one sequence that the model, the tokenizer and the task's `own` limit allow."""
        limits = [self.model.spec.input_stack.context_length, self.tokenizer.max_length, own]
        return min((limit for limit in limits if limit is not None), default=None)


def dropped_from(text: EncodedText) -> dict[str, int]:
    """Make the field that an answer has where its text was cut: `{"dropped_tokens": count}`; else no field."""
    return {"dropped_tokens": text.dropped} if text.dropped else {}


def read_texts(inputs: Sequence[Any]) -> list[str | tuple[str, str]]:
    """Read strings and objects `{"text": …, "text_pair": …}` as texts and pairs of texts.

    Raises:
        InputError: an input of another form.
    """
    return [_read_text(given) for given in inputs]


def _read_text(given: Any) -> str | tuple[str, str]:
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping) and "text" in given and set(given) <= {"text", "text_pair"}:
        pair = given.get("text_pair")
        return given["text"] if pair is None else (given["text"], pair)
    raise InputError(f'Expected a text or {{"text": …, "text_pair": …}}, got {shown(given)}.')


def read_object(given: Any, expected: Fields) -> list[Any]:
    """Read the values of an object, in the order of `expected`.

    Raises:
        InputError: not an object, other names, or a value that is neither a text nor a list of texts.
    """
    if not isinstance(given, Mapping) or set(given) != set(expected):
        form = ", ".join(f'"{name}": {"text" if kind is str else "[text, …]"}' for name, kind in expected.items())
        raise InputError(f"Expected an object {{{form}}}, got {shown(given)}.")
    for name, kind in expected.items():
        value = given[name]
        if kind is str and not isinstance(value, str):
            raise InputError(f"{name}: expected a text, got {shown(value)}.")
        if kind is not str and not (
            isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value)
        ):
            raise InputError(f"{name}: expected a list of one or more texts, got {shown(value)}.")
    return [given[name] for name in expected]
