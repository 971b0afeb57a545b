"""Tasks that answer for single tokens, and so can read a long text in windows."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from triform.errors import InputError
from triform.inputs import Batch, LongInput, cut_into_windows
from triform.inputs.text.backend import Text
from triform.tasks.multi_sequence import Rows, in_parts
from triform.tasks.task import Answer, Options, Task, option


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowOptions(Options):
    """Options of whatever reads long text in windows; nothing of it is ever cut off."""

    long_input: LongInput = option(
        LongInput.WINDOW,
        "Read text longer than the model can in windows that overlap, or refuse it (error).",
        choices=(LongInput.WINDOW, LongInput.ERROR),
    )
    stride: int | None = option(
        None, "Tokens that the windows of a long text share; by default 128, or half a window.", minimum=0
    )


class WindowedTask(Task[Rows, Answer]):
    """A task whose answer to a long text is put together of those to its windows.

    Each token is answered for by the window in which it stands further from an edge, one that is not the text's own;
    `postprocess` then sees the text as one.
    """

    options_type: ClassVar[type[Options]] = WindowOptions

    @abstractmethod
    def postprocess(self, batch: Batch, tensors: Rows, options: Any) -> list[Answer]:
        """The rows of all windows of some texts → an answer for each text."""

    def encode_windows(self, texts: Sequence[Text], options: WindowOptions) -> Batch:
        """Texts → Batch of their windows; a text that fits is one window.

        Raises:
            InputError: a text does not fit and is not to be cut into windows, or `stride` is too large.
        """
        limit = self.limit()
        encoded = self.tokenizer.encode(texts)
        if options.long_input is LongInput.ERROR and limit is not None:
            for number, text in enumerate(encoded):
                if len(text.ids) > limit:
                    raise InputError(
                        f"Text {number} has {len(text.ids)} tokens, more than the {limit} that fit: "
                        f'{text.text[:60]!r}. Shorten it, or let it be read in parts with long_input="window".'
                    )
        windows = [cut_into_windows(text, max_length=limit, overlap=options.stride) for text in encoded]
        return Batch.from_texts([window for own in windows for window in own])

    def batches(self, inputs: Sequence[Any], options: Any) -> Iterator[Batch]:
        """Inputs → batches of all windows of some of them, within the token budget where a text by itself is."""
        yield from self.preprocess(inputs, options).split(options.token_budget, whole_texts=True)

    def num_inputs(self, batch: Batch) -> int:
        return len(batch.whole_texts())

    def answers(self, batch: Batch, options: Any) -> list[Answer]:
        """The answers to some texts, put together of parts within the token budget."""
        return self.postprocess(batch, in_parts(self, batch, options), options)
