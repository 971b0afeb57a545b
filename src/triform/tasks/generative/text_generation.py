"""Continuation of a text, or the next message of a conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from triform import spec
from triform.errors import InputError
from triform.families import Config
from triform.generation import Completion, Grammar, Request
from triform.generation.config import MAX_NEW_TOKENS
from triform.inputs import Batch, EncodedText, LongInput, pack_texts
from triform.inputs.chat.template import Chat, ChatTemplate, Message
from triform.tasks.generative.generative_task import GenerativeTask
from triform.tasks.generative.options import GenerationOptions
from triform.tasks.options import option
from triform.tasks.text_task import dropped_from

Generated = str | list[Message]
"""A text, or the messages of a conversation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextGenerationOptions(GenerationOptions):
    """Options of text-generation."""

    return_full_text: bool = option(True, "Whether the answer begins with the prompt.")
    num_return_sequences: int = option(1, "Answers to each prompt, when drawing or with beams.", minimum=1)
    stop: str | Sequence[str] | None = option(None, "What is added ends before the first of these texts.")
    details: bool = option(False, "Whether the answer also says what ended it, and how probable each token was.")
    schema: Mapping[str, Any] | None = option(
        None, "JSON Schema that what is added follows, as JSON that fits it, unless a limit ends it."
    )
    regex: str | None = option(None, "Regular expression that the whole of what is added matches.")
    continue_final_message: bool | None = option(
        None, "Whether a conversation's last message goes on; by default the assistant's does, and another is answered."
    )


class TextGeneration(GenerativeTask[list[dict[str, Any]]]):
    """Answers `[{generated_text}]` for a prompt, as many as `num_return_sequences` says.

    A prompt is a text or a conversation: a list of messages `{"role": …, "content": …}`, or an object that has them as
    `messages`, with `tools`, `documents` or `chat_template_kwargs` for the model's chat template. Then `generated_text`
    is the list with the assistant's answer. With `details` there are also `finish_reason` (stop, length, context or
    time) and `tokens`, `[{id, text, log_probability}]`.
    """

    name = "text-generation"
    summary = "Goes on where each text ends."
    example = "Once upon a time"
    options_type = TextGenerationOptions
    head = spec.LanguageHead
    forms = (spec.Decoder,)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The template that renders messages to text.

        Raises:
            TokenizerError: the checkpoint has no chat template.
        """
        return ChatTemplate.from_checkpoint(self.model.checkpoint, self.tokenizer)

    def is_one(self, inputs: Any, options: Any) -> bool:
        """Check whether `inputs` is one prompt: a text, an object with messages, or a list of messages."""
        return super().is_one(inputs, options) or _is_conversation(inputs)

    def preprocess(self, inputs: Sequence[Any], options: TextGenerationOptions) -> Batch:
        chats: dict[int, EncodedText] = {}
        for number, given in enumerate(inputs):
            if isinstance(given, list | Mapping) or _is_conversation(given):
                chats[number] = self._encode_chat(given, options)
        texts = [given for number, given in enumerate(inputs) if number not in chats]
        if not chats:
            return self._encode_texts(texts, options)
        encoded = iter(self._encode_texts(texts, options).sources_of(EncodedText) if texts else ())
        return pack_texts([chats[number] if number in chats else next(encoded) for number in range(len(inputs))])

    def _encode_texts(self, texts: Sequence[Any], options: TextGenerationOptions) -> Batch:
        config = Config(self.model.blueprint.config, str(self.model.checkpoint.folder / "config.json"))
        if config.optional_string("prefix"):
            config.refuse("prefix", "none: Triform puts no prefix before a prompt. Take it out of a copy of the file")
        # The model continues the end of a prompt, so a prompt is cut at its beginning.
        room = None if options.long_input is LongInput.ERROR else self._room_for_prompts(options)
        return self.encode(texts, options, max_length=room, side="left")

    def _encode_chat(self, given: Any, options: TextGenerationOptions) -> EncodedText:
        chat = Chat.read(given)
        return self.encode_chat(chat, continue_final_message=_continues(chat.messages, options))

    def encode_chat(
        self, chat: Chat, *, continue_final_message: bool = False, add_generation_prompt: bool = True
    ) -> EncodedText:
        """Render a conversation by the chat template, and encode it; arguments as in `ChatTemplate.render`.

        Raises:
            InputError: the template refuses the conversation, or it has more tokens than fit.
            TokenizerError: the checkpoint has no chat template, or a damaged one.
        """
        prompt = self.chat_template.render(
            chat, continue_final_message=continue_final_message, add_generation_prompt=add_generation_prompt
        )
        encoded = self.tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled, max_length=self.limit())
        return replace(encoded, messages=chat.messages)

    def _room_for_prompts(self, options: TextGenerationOptions) -> int | None:
        """The most tokens of a prompt that leave room for the new ones; half of the context or more without a limit."""
        limit = self.limit()
        if limit is None:
            return None
        if options.max_new_tokens is None:
            return max(limit - MAX_NEW_TOKENS, limit // 2)
        room: int = max(limit - options.max_new_tokens, 1)
        return room

    def check_options(self, options: TextGenerationOptions) -> None:
        self.grammar(options)

    def grammar(self, options: TextGenerationOptions) -> Grammar | None:
        """Compile the grammar of answers: of `schema`, or `regex`; None without one.

        Raises:
            InputError: both are set, or one cannot be enforced.
        """
        if options.schema is not None and options.regex is not None:
            raise InputError("schema, regex: an answer follows one of them. Leave the other out.")
        if options.schema is not None:
            return Grammar.of_json_schema(options.schema, self.tokenizer)
        return None if options.regex is None else Grammar.of_regex(options.regex, self.tokenizer)

    def requests(self, batch: Batch, options: TextGenerationOptions) -> list[Request]:
        return self.model.new_requests(
            batch,
            num_return_sequences=options.num_return_sequences,
            log_probabilities=options.details,
            grammar=self.grammar(options),
            stop_strings=options.stop,
            **options.settings(),
        )

    def postprocess(
        self, batch: Batch, tensors: list[Completion], options: TextGenerationOptions
    ) -> list[list[dict[str, Any]]]:
        count = options.num_return_sequences
        return [
            [self._answer(text, completion, options) for completion in tensors[first : first + count]]
            for first, text in zip(range(0, len(tensors), count), batch.sources_of(EncodedText), strict=True)
        ]

    def _answer(self, text: EncodedText, completion: Completion, options: TextGenerationOptions) -> dict[str, Any]:
        answer = {"generated_text": self._continued(text, completion.ids, options), **dropped_from(text)}
        if options.details:
            answer["finish_reason"] = str(completion.finish_reason)
            answer["tokens"] = [
                {"id": id, "text": self.tokenizer.decode([id], skip_special_tokens=False), "log_probability": value}
                for id, value in zip(completion.ids, completion.log_probabilities or (), strict=True)
            ]
        return answer

    def _continued(self, text: EncodedText, ids: list[int], options: TextGenerationOptions) -> Generated:
        messages = text.messages
        # Spaces that a grammar asks for stay.
        decode = self.tokenizer.decode
        if options.schema is not None or options.regex is not None:
            decode = partial(decode, clean_up=False)
        if messages is None or _continues(messages, options):
            # A token may decode differently behind its neighbours, so prompt and answer are decoded together.
            prompt = decode(text.ids.tolist())
            added = decode([*text.ids.tolist(), *ids])[len(prompt) :]
        else:
            added = decode(ids)
        stops = [options.stop] if isinstance(options.stop, str) else options.stop or ()
        ends = [added.find(stop) for stop in stops if stop in added]
        added = added[: min(ends, default=len(added))]
        if not options.return_full_text:
            return added
        if messages is None:
            return text.text + added
        if _continues(messages, options):
            return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + added}]
        return [*messages, {"role": "assistant", "content": added}]


def _is_conversation(given: Any) -> bool:
    """Check whether `given` is a list of messages."""
    return isinstance(given, list | tuple) and bool(given) and isinstance(given[0], Mapping) and "role" in given[0]


def _continues(messages: Sequence[Message], options: TextGenerationOptions) -> bool:
    """Decide whether the last message goes on: as the caller says, or by default where it is the assistant's."""
    if options.continue_final_message is not None:
        return options.continue_final_message
    return bool(messages[-1]["role"] == "assistant")
