"""The turns of a conversation with a model. Knows nothing of terminals."""

from collections.abc import Generator
from contextlib import closing

from triform.generation import FinishReason
from triform.inputs import TextStream
from triform.inputs.chat.template import Message
from triform.tasks.generative.text_generation import TextGeneration, TextGenerationOptions


class Conversation:
    """A conversation so far: messages of a person and of a model in turn.

    Raises:
        TokenizerError: the model has no chat template.
        InputError: impossible settings of generation.
    """

    def __init__(self, task: TextGeneration, system: str | None = None) -> None:
        task.chat_template  # noqa: B018 (a model without one is refused before a word is said)
        self.messages: list[Message] = []
        self.num_tokens = 0
        """Of the last answer."""
        self.finish_reason: FinishReason | None = None
        """What ended the last answer; None where the caller did."""
        assert isinstance(task.options, TextGenerationOptions)
        self._task = task
        self._options = task.options
        self._settings = task.options.settings()
        self._system = system
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.messages = [] if self._system is None else [{"role": "system", "content": self._system}]

    def answer(self, text: str) -> Generator[str]:
        """The model's answer in pieces, as they come.

        Closed before its end, what was said until then stays in the conversation; where nothing was, neither does
        the question.

        Raises:
            InputError: the conversation does not fit into the model's context, or the template refuses it.
        """
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        said = ""
        words = TextStream(self._task.tokenizer)
        self.num_tokens, self.finish_reason = 0, None
        batch = self._task.preprocess([asked], self._options)
        try:
            with closing(self._task.model.stream(batch, **self._settings)) as tokens:
                for token in tokens:
                    self.num_tokens += 1
                    self.finish_reason = token.finish_reason
                    piece = words.add(token.id)
                    said += piece
                    yield piece
            yield (rest := words.finish())
            said += rest
        except Exception:
            self.num_tokens = 0  # a failed answer is not kept
            raise
        finally:
            if self.num_tokens:
                self.messages = [*asked, {"role": "assistant", "content": said}]
