"""The generation behind chat and responses: a conversation becomes requests, and their tokens become choices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from triform.errors import InputError
from triform.generation import FinishReason, GeneratedToken, Request
from triform.inputs import Batch, pack_texts
from triform.inputs.chat.template import Chat
from triform.model import Model
from triform.serving.call import Call, first_error
from triform.serving.models import ServedModel, has_chat_template
from triform.serving.routes.generated_text import GeneratedText, TokenText
from triform.serving.routes.generation_fields import GenerationFields, limit_of, requests_for, settings_of, wrong
from triform.serving.routes.openai_messages import Message, conversation, no_template
from triform.serving.routes.openai_tools import Tools, read_tools
from triform.serving.routes.structured_output import find_grammar, response_form
from triform.serving.routes.tool_calls import ToolCall, ToolCallReader
from triform.serving.routes.usage import num_cached, timings
from triform.serving.tokens import Tokens
from triform.tasks.generative.text_generation import TextGeneration
from triform.tasks.runner import num_characters

FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT: "length",
    FinishReason.TIME: "length",
}


class ChatFields(GenerationFields, kw_only=True, forbid_unknown_fields=True):
    """What a conversation has beside the settings of generation."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[Any] | None = None
    reasoning_effort: str | None = None

    @property
    def limit_name(self) -> str:
        """The field of the most new tokens."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    def places(self) -> list[str]:
        """Name the place of each message in the body."""
        return [f"messages[{number}]" for number in range(len(self.messages))]


@dataclass(kw_only=True)
class Choice:
    """One answer to a conversation, as it grows."""

    index: int
    text: GeneratedText
    reader: ToolCallReader | None
    content: str = ""
    """The text that belongs to no call."""
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, token: GeneratedToken) -> tuple[str, list[ToolCall]]:
        """Add a token, and return new content and new calls."""
        piece = self.text.add(token)
        if self.reader is None:
            content, calls = piece, list[ToolCall]()
        else:
            content, calls = self.reader.add(piece, is_end=self.text.finish_reason is not None)
            if self.reader.is_done and self.text.finish_reason is None:
                self.text.finish_reason = FinishReason.STOP
        self.content += content
        self.calls += calls
        return content, calls

    @property
    def finish_reason(self) -> str | None:
        """The reason of the end, as OpenAI names it; None before the end."""
        reason = self.text.finish_reason
        if reason is FinishReason.STOP and self.calls:
            return "tool_calls"
        return None if reason is None else FINISH[reason]

    def take_tokens(self) -> list[TokenText]:
        """Return the tokens whose text is certain since the last call."""
        return self.text.take_tokens()


@dataclass(kw_only=True)
class ChatRun:
    """A conversation that the model answers."""

    call: Call
    served: ServedModel
    task: TextGeneration
    requests: Sequence[Request]
    tokens: Tokens
    choices: list[Choice]
    tools: Tools | None
    num_prompt_tokens: int

    @property
    def num_completion_tokens(self) -> int:
        """The tokens written so far, of all choices."""
        return sum(choice.text.num_tokens for choice in self.choices)

    @property
    def num_cached_tokens(self) -> int:
        """The tokens of the prompt found in the cache."""
        return num_cached(self.requests, 1)

    def timings(self) -> dict[str, Any]:
        """Write the times of the generation."""
        return timings(self.tokens, self.num_prompt_tokens, self.num_completion_tokens, self.num_cached_tokens)

    def add_step(self, step: Sequence[GeneratedToken]) -> Iterator[tuple[Choice, str, list[ToolCall]]]:
        """Add the tokens of a step; yield choices with their new content and calls."""
        for token in step:
            choice = self.choices[token.sequence]
            if choice.finish_reason is None:
                yield choice, *choice.add(token)

    @property
    def is_over(self) -> bool:
        """Check whether all choices have ended."""
        return all(choice.finish_reason is not None for choice in self.choices)

    async def finish(self) -> None:
        """Run to the end."""
        async for step in self.tokens:
            for _ in self.add_step(step):
                pass
            if self.is_over:
                break
        self.call.end_generation(self.tokens)


async def begin_chat(call: Call, fields: ChatFields) -> ChatRun:
    """Check a request, and submit it to the executor.

    Raises:
        ApiError: naming the field.
        InputError: the template refuses the conversation, or a setting is impossible.
    """
    served = call.find(fields.model, "text-generation")
    task = served.task("text-generation")
    assert isinstance(task, TextGeneration)
    call.task_name = task.name
    if not has_chat_template(task):
        raise no_template(served.name)
    settings = settings_of(fields, task.model)
    limit = _limit(fields, task.model, call.settings.max_new_tokens)
    _check_logprobs(fields)
    tools = read_tools(task, fields.tools, fields.tool_choice, is_parallel=fields.parallel_tool_calls)
    chat = _read_chat(fields, task, tools)
    continues = bool(fields.continue_final_message)
    if continues and fields.add_generation_prompt:
        raise wrong("continue_final_message", "expected without add_generation_prompt. Set one of them")
    form = response_form(fields.response_format, fields.structured_outputs)
    size = num_characters([*chat.messages, *(chat.tools or ())])
    begins = fields.add_generation_prompt is not False

    def encode() -> Batch:
        return pack_texts([task.encode_chat(chat, continue_final_message=continues, add_generation_prompt=begins)])

    batch = await call.encode(served, encode, size)
    grammar = await find_grammar(call, task.tokenizer, form, tools)
    requests = requests_for(
        task.model,
        batch,
        num_answers=fields.num_answers,
        limit_name=fields.limit_name,
        log_probabilities=bool(fields.logprobs),
        num_alternatives=fields.top_logprobs or 0,
        grammar=grammar,
        **settings,
        **limit,
    )
    opening = "" if tools is None or tools.form is None else tools.form.opening
    choices = [
        Choice(
            index=index,
            text=GeneratedText(
                tokenizer=task.tokenizer,
                stops=fields.stops,
                end_tokens=requests[0].config.eos_token_id,
                before=batch.ids.tolist() if continues else (),
                shown=[token for token in task.tokenizer.special_tokens if token in opening],
            ),
            reader=None if tools is None else tools.reader(),
        )
        for index in range(fields.num_answers)
    ]
    return ChatRun(
        call=call,
        served=served,
        task=task,
        requests=requests,
        tokens=call.begin_generation(served, requests, priority=fields.priority or 0),
        choices=choices,
        tools=tools,
        num_prompt_tokens=batch.num_rows,
    )


def _limit(fields: ChatFields, model: Model, default: int) -> dict[str, Any]:
    """Return the limit of new tokens: of the fields, else of the checkpoint, else `default`.

    Raises:
        ApiError: two limits that differ, or one below 1.
    """
    first, second = fields.max_completion_tokens, fields.max_tokens
    if first is not None and second is not None and first != second:
        raise wrong("max_tokens", "expected the same as max_completion_tokens. Set one of them")
    limit = second if first is None else first
    if limit is not None and limit < 1:
        raise wrong(fields.limit_name, f"expected at least 1, got {limit}")
    known = model.generation_config
    if limit is None and (known.max_new_tokens is not None or known.max_length is not None):
        return {}
    return limit_of(limit, default)


def _check_logprobs(fields: ChatFields) -> None:
    if fields.top_logprobs is not None:
        if not fields.logprobs:
            raise wrong("top_logprobs", "expected only with logprobs: true. Set it, or leave this out")
        if not 0 <= fields.top_logprobs <= 20:
            raise wrong("top_logprobs", f"expected 0 to 20, got {fields.top_logprobs}")


def _read_chat(fields: ChatFields, task: TextGeneration, tools: Tools | None) -> Chat:
    """Read the conversation and the template's other variables."""
    template = task.chat_template
    variables = dict(fields.chat_template_kwargs or {})
    if fields.reasoning_effort is not None:
        if not template.mentions("reasoning_effort"):
            raise wrong("reasoning_effort", "this model's chat template has no such switch. Leave it out")
        variables["reasoning_effort"] = fields.reasoning_effort
    given = {
        "messages": conversation(fields.messages, fields.places(), knows=template.mentions),
        "tools": None if tools is None else list(tools.given),
        "documents": fields.documents,
        "chat_template_kwargs": variables,
    }
    try:
        return Chat.read(given)
    except InputError as error:
        raise first_error("messages", error) from error
