"""Drives a task: inputs → chunks → batches within the token budget → answers, in the order of the inputs.

Every task runs here: lone inputs and streams, long texts in windows, several sequences for one input, and inputs that
cannot be answered.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from triform.errors import InputError, TruncationWarning
from triform.inputs import Batch, EncodedText
from triform.tasks.options import Options

Answer = TypeVar("Answer")
Given = TypeVar("Given")

CHUNK_SIZE = 256
"""The most inputs that are preprocessed together; a stream is never read further ahead."""
CHUNK_CHARACTERS = 2**20
"""Characters that end a chunk: tokens take up to 450 bytes of memory for each character."""
VALUE = 16
"""Characters that a list, an object or a number in an input counts."""


class ErrorPolicy(StrEnum):
    """The error policy for an input that cannot be answered."""

    STOP = "stop"
    """The run ends there; the inputs before it are answered."""
    SKIP = "skip"
    """The error takes the place of the answer, and the run continues."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Takes the place of the answer to an input that has none."""

    error: str


@dataclass(slots=True)
class _Cut:
    """Counts of the texts of a run that were cut."""

    of: int = 0
    """Texts, cut or not."""
    texts: int = 0
    tokens: int = 0
    """Tokens that were not read."""
    limit: int = 0

    def count(self, batch: Batch) -> None:
        for source in batch.sources:
            if isinstance(source, EncodedText):
                self.of += 1
                self.texts += source.dropped > 0
                self.tokens += source.dropped
                self.limit = max(self.limit, len(source.ids) if source.dropped else 0)


def take_chunk(inputs: Iterable[Given], most: int, value: Callable[[Given], Any]) -> list[Given]:
    """Take the next chunk from an iterator: at most `most` inputs, fewer where they are long.

    Arguments:
        inputs: what is left; the chunk depends on the inputs in it alone.
        most: the most inputs.
        value: gives the text, or the nested value, of an input.
    """
    chunk: list[Given] = []
    room = CHUNK_CHARACTERS
    for given in inputs:
        chunk.append(given)
        room -= num_characters(value(given))
        if len(chunk) == most or room <= 0:
            break
    return chunk


def num_characters(value: Any) -> int:
    """Count the characters of the texts in a nested value, and some for each value in it."""
    size, left = 0, [value]
    while left:
        each = left.pop()
        size += len(each) if isinstance(each, str) else VALUE
        if isinstance(each, Mapping):
            left.extend(each.values())
        elif isinstance(each, list | tuple):
            left.extend(each)
    return size


class Steps(Protocol[Answer]):
    """The three steps of a task, and the declarations that a runner needs."""

    fields: ClassVar[Mapping[str, Any]]
    several_sequences: ClassVar[bool]

    def preprocess(self, inputs: Sequence[Any], options: Any) -> Batch: ...

    def forward(self, batch: Batch, options: Any) -> Any: ...

    def postprocess(self, batch: Batch, tensors: Any, options: Any) -> list[Answer]: ...


class Runner(Generic[Answer]):
    """Answers inputs by a task with the options of a call.

    Inputs are read and preprocessed a chunk at a time. A batch of one input's sequences is never divided among answers,
    but its forward passes are, by the token budget.
    """

    def __init__(self, task: Steps[Answer], options: Options) -> None:
        self.options = options
        self._task = task
        self._cut = _Cut()

    @property
    def chunk_size(self) -> int:
        """The most inputs that are preprocessed together."""
        return 1 if self._task.several_sequences else CHUNK_SIZE

    def answers(self, inputs: Iterable[Any]) -> Iterator[Answer]:
        """Answer a stream of inputs, in order.

        Raises:
            InputError: an input cannot be answered; the chunks before it are.
        """
        remaining, first = iter(inputs), 0
        try:
            while chunk := take_chunk(remaining, self.chunk_size, lambda given: given):
                with self._numbering(chunk, first):
                    batches = self._batches(chunk)
                begin = 0
                for batch in batches:
                    end = begin + self._num_inputs(batch)
                    with self._numbering(chunk[begin:end], first + begin):
                        answers = self._answers(batch)
                    yield from answers
                    begin = end
                first += len(chunk)
        finally:
            self.warn_of_cuts()

    def answer(self, given: Any) -> Answer:
        """Answer a lone input, whose errors need no number.

        Raises:
            InputError: the input cannot be answered.
        """
        [answer] = [answer for batch in self._batches([given]) for answer in self._answers(batch)]
        self.warn_of_cuts()
        return answer

    def warn_of_cuts(self) -> None:
        """Warn once of all texts that were cut since the last warning.

        Warns:
            TruncationWarning: some texts were cut.
        """
        cut, self._cut = self._cut, _Cut()
        if cut.texts:
            warnings.warn(
                f"{cut.texts} of {cut.of} texts were longer than {cut.limit} tokens; "
                f"{cut.tokens} tokens were not read.",
                TruncationWarning,
                stacklevel=2,
            )

    @contextmanager
    def _numbering(self, inputs: Sequence[Any], first: int) -> Iterator[None]:
        """Number the first input that cannot be answered among all inputs of the run, of which `inputs` are a part.

        Raises:
            InputError: as the error within, but with the number.
        """
        try:
            yield
        except InputError as error:
            for number, given in enumerate(inputs, first):
                try:
                    for batch in self._batches([given]):
                        self._answers(batch)
                except InputError as own:
                    message, is_text = re.subn(r"^Text 0\b", f"Text {number}", str(own))
                    is_text = is_text and not self._task.several_sequences
                    raise InputError(message if is_text else f"Input {number}: {own}") from error
            raise

    def parts(self, chunk: Sequence[Any], *, on_error: ErrorPolicy, skip: int = 0) -> Iterator[list[Answer | Failure]]:
        """Answer one chunk part by part, without raising where a single input cannot be answered.

        A part is the inputs of one batch, with the failures around them. Batches depend on the inputs of the chunk
        alone, so that an interrupted run that gives the same chunk again, with `skip`, gets the same answers.

        Arguments:
            chunk: at most `chunk_size` inputs; a `Failure` among them stays one.
            on_error: `STOP` ends with the first failure from `skip` on; no later input is computed.
            skip: how many of the first inputs an earlier run has answered; they only help to cut the batches.

        Yields:
            Lists that together hold the answer or failure of each input in `chunk[skip:]`, in order.
        """
        failures = {number: given for number, given in enumerate(chunk) if isinstance(given, Failure)}
        batches = self._valid_batches(chunk, failures)
        if on_error is ErrorPolicy.STOP and (failed := [number for number in failures if number >= skip]):
            chunk = chunk[: min(failed) + 1]
            batches = self._valid_batches(chunk, failures)
        valid = [number for number in range(len(chunk)) if number not in failures]
        for batch in batches:
            numbers, valid = valid[: self._num_inputs(batch)], valid[self._num_inputs(batch) :]
            end = valid[0] if valid else len(chunk)
            if end <= skip:
                continue
            answers = self._answers_or_failures(batch, chunk, numbers, failures) if numbers[-1] >= skip else {}
            part = [failures[number] if number in failures else answers[number] for number in range(skip, end)]
            if on_error is ErrorPolicy.STOP and (
                stop := [n for n, each in enumerate(part) if isinstance(each, Failure)]
            ):
                yield part[: stop[0] + 1]
                return
            yield part
            skip = end
        if skip < len(chunk):
            yield [failures[number] for number in range(skip, len(chunk))]

    def _batches(self, inputs: Sequence[Any]) -> list[Batch]:
        """Preprocess a chunk, and cut it between inputs into batches within the token budget."""
        if not inputs:
            return []
        batch = self._task.preprocess(inputs, self.options)
        if self._task.several_sequences:
            return [batch]
        return list(batch.split(self.options.token_budget, keep_whole=True))

    def _num_inputs(self, batch: Batch) -> int:
        return 1 if self._task.several_sequences else len(batch.whole_borders()) - 1

    def _answers(self, batch: Batch) -> list[Answer]:
        """Answer the inputs of one batch; its sequences go through the model in parts within the token budget."""
        task, options = self._task, self.options
        tensors = [task.forward(part, options) for part in batch.split(options.token_budget)]
        answers = task.postprocess(batch, tensors[0] if len(tensors) == 1 else np.concatenate(tensors), options)
        self._cut.count(batch)
        return answers

    def _valid_batches(self, chunk: Sequence[Any], failures: dict[int, Failure]) -> list[Batch]:
        """Preprocess the inputs that have not failed; where that raises, find out which fail and add them."""
        valid = {number: given for number, given in enumerate(chunk) if number not in failures}
        try:
            return self._batches(list(valid.values()))
        except InputError:
            for number, given in valid.items():
                try:
                    self._batches([given])
                except InputError as error:
                    failures[number] = self._failure(error)
            return self._batches([given for number, given in valid.items() if number not in failures])

    def _answers_or_failures(
        self, batch: Batch, chunk: Sequence[Any], numbers: Sequence[int], failures: dict[int, Failure]
    ) -> dict[int, Answer]:
        """Answer a batch, by the numbers of its inputs; where that raises, try each input alone."""
        try:
            return dict(zip(numbers, self._answers(batch), strict=True))
        except InputError as error:
            if len(numbers) == 1:
                failures[numbers[0]] = self._failure(error)
                return {}
        found: dict[int, Answer] = {}
        for number in numbers:
            [alone] = self._batches([chunk[number]])
            found |= self._answers_or_failures(alone, chunk, [number], failures)
        return found

    def _failure(self, error: InputError) -> Failure:
        """Describe what is wrong with a lone input, whose only text needs no number."""
        return Failure(str(error) if self._task.fields else re.sub("^Text 0 ", "the text ", str(error)))
