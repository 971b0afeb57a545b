"""A task is its three steps and its declarations; `runner.py` drives all tasks."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.errors import InputError, WrongTaskError
from triform.hub import Checkpoint
from triform.inputs import Batch
from triform.model import Model, load
from triform.model.files import find_files
from triform.model.loading import lasting_arguments
from triform.tasks.options import Options, with_changes
from triform.tasks.runner import Runner

Tensors = TypeVar("Tensors")
Answer = TypeVar("Answer")

Rows = NDArray[np.floating]
"""(B, …) or (T, …) tensors in NumPy: one row for each sequence, or for each row of a batch."""

Fields = Mapping[str, type[str] | type[list[str]]]
"""The names of an object's texts and lists of texts."""


class Processor(Protocol):
    """Turns human input of one kind into a batch's sources: a tokenizer, an image processor, a feature extractor."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Read the processor's files."""


class Task(ABC, Generic[Tensors, Answer]):
    """A model, its processor, and three steps from human input to human answer.

    Calling a task with one input gives one answer, with a list all answers, with any other iterable an iterator that
    reads and answers piece by piece.

    A task is pickled and copied as the arguments of `load` and its options, and loads again where it is unpickled.
    """

    name: ClassVar[str]
    """As `pipeline` and the command line know the task."""
    summary: ClassVar[str]
    """One line for people."""
    example: ClassVar[str]
    """Input for the command line's help."""
    example_options: ClassVar[str] = ""
    """Options that the example cannot do without."""
    input_name: ClassVar[str]
    """One input as errors call it, such as "text"."""
    fields: ClassVar[Fields] = {}
    """The fields of each input, where inputs are objects."""
    options_type: ClassVar[type[Options]]
    processor_type: ClassVar[type[Processor]]
    """The processor that `load` reads from the model's checkpoint."""
    several_sequences: ClassVar[bool] = False
    """Whether one input becomes several sequences that make one answer together, such as a query with each of its
    documents. Inputs are then preprocessed one at a time. Windows of one source need no such declaration."""
    head: ClassVar[type[spec.Head] | None]
    """The head that the model must have; None for the backbone alone."""
    forms: ClassVar[tuple[type[spec.Encoder] | type[spec.Decoder] | type[spec.EncoderDecoder], ...]]
    """The forms of transformer that can do the task."""

    def __init__(self, model: Model, processor: Any, /, **options: Any) -> None:
        self.model = model
        self.processor = processor
        self.options = with_changes(self.options_type(), options, self.name)
        self._arguments: dict[str, Any] | None = None
        self._check_model()

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
        """Load a model and its processor for this task; arguments as in `triform.load`."""
        files = find_files(model, revision, adapter)
        task = cls.load_files(files, engine=engine, dtype=dtype, **options)
        names = lasting_arguments(files, model, revision, adapter)
        task._arguments = {**names, "engine": engine, "dtype": dtype}
        return task

    @classmethod
    def load_files(cls, files: Checkpoint, *, engine: str, dtype: str, **options: Any) -> Self:
        """Load the model and the processor of files that were found; other arguments as in `triform.load`."""
        loaded = load(files, engine=engine, dtype=dtype, with_head=cls.head is not None, head=cls.head)
        return cls(loaded, cls.read_processor(loaded), **options)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise InputError(
                f"{self.name}: this pipeline was made with a model in memory, so no name brings it back. "
                "Save the model with model.save(folder), and load the folder by triform.pipeline."
            )
        default = self.options_type()
        names = [option.name for option in fields(self.options)]
        options = {name: value for name in names if (value := getattr(self.options, name)) != getattr(default, name)}
        return partial(type(self).load, **self._arguments, **options), ()

    @classmethod
    def read_processor(cls, model: Model) -> Any:
        """Read the processor of a model, of `processor_type`."""
        return cls.processor_type.from_checkpoint(model.checkpoint)

    @abstractmethod
    def is_one(self, inputs: Any, options: Any) -> bool:
        """Check whether `inputs` is one input, and not a list or an iterable of inputs."""

    @abstractmethod
    def preprocess(self, inputs: Sequence[Any], options: Any) -> Batch:
        """Human input → Batch: one sequence for each input, or the windows or `several_sequences` of an input."""

    @abstractmethod
    def forward(self, batch: Batch, options: Any) -> Tensors:
        """Batch → tensors. Where one input's sequences exceed the token budget, tensors are `Rows` to be joined."""

    def num_rows(self, batch: Batch) -> int:
        """Count the rows of `forward` for a batch: one for each sequence, unless a task says otherwise.

        Batches of several calls may go through the model together; their rows are divided by this count.
        """
        return len(batch)

    @abstractmethod
    def postprocess(self, batch: Batch, tensors: Tensors, options: Any) -> list[Answer]:
        """Tensors → human answers, one for each input in the batch."""

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer one input, a list of them, or an iterable piece by piece."""
        runner = self.runner(**options)
        if self.is_one(inputs, runner.options):
            return self.one(inputs, runner.answer(inputs), runner.options)
        if hasattr(inputs, "columns") or type(inputs).__name__ == "Series":
            # Iterating over a table of pandas gives the names of its columns.
            raise InputError(
                f"{self.name}: expected {self.input_name}, a list or an iterable of {self.input_name}s, got a "
                f'{type(inputs).__name__}. Give the list of one column, such as df["column"].tolist().'
            )
        if isinstance(inputs, list | tuple):
            return self.many(list(runner.answers(inputs)))
        if isinstance(inputs, Iterable):
            return runner.answers(inputs)
        one, got = self.input_name, type(inputs).__name__
        raise InputError(f"{self.name}: expected {one}, a list or an iterable of {one}s, got {got}.")

    def runner(self, **options: Any) -> Runner[Answer]:
        """Make a runner with some options changed."""
        return Runner(self, with_changes(self.options, options, self.name))

    def one(self, given: Any, answer: Answer, options: Any) -> Any:
        """Give the answer to a lone input the shape that it has in the pipelines of `transformers`."""
        return answer

    def many(self, answers: list[Answer]) -> Any:
        """Collect the answers to a list of inputs."""
        return answers

    def logits(self, batch: Batch) -> Rows:
        """Run the model → logits in NumPy: (B, labels) of a sequence-level head, (T, V) of a token-level head."""
        logits: Rows = self.model.engine.to_numpy(self.model(batch).logits)
        return logits

    def check_options(self, options: Any) -> None:
        """Check before the first input that the options can be followed.

        Raises:
            InputError: they cannot.
        """

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
