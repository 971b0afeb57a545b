"""A conversation, and the chat template that renders its messages to text."""

import json
import re
import stat
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triform.errors import InputError, TokenizerError, shown
from triform.hub import TOKENIZER, Checkpoint
from triform.inputs.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, Any]
"""`{"role": …, "content": …}`, and other keys that a template reads, such as `tool_calls`."""

EXAMPLE = '[{"role": "user", "content": "Hello!"}]'
OWN_FIELDS = ("tools", "documents", "chat_template_kwargs")
FILE, FOLDER = "chat_template.jinja", "additional_chat_templates"
END_MARK = "THE-MESSAGE-ENDS-HERE "
MAX_TEMPLATE = 2**17
"""The most bytes of a template, several times the largest that is published: compiling takes time and memory."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of a message's reasoning, in the order of transformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A conversation, and the other variables of its template."""

    messages: tuple[Message, ...]
    tools: Sequence[Any] | None = None
    """JSON schemas of the functions that the model may call."""
    documents: Sequence[Any] | None = None
    """Documents that the model may quote."""
    variables: Mapping[str, Any]
    """Switches of the template, such as `enable_thinking` (`chat_template_kwargs`)."""

    @classmethod
    def read(cls, given: Any) -> "Chat":
        """Read a list of messages, or `{"messages": […]}` with `tools`, `documents` and `chat_template_kwargs`.

        Raises:
            InputError: the input has another form, or a message has no role, or content that is not a text.
        """
        fields = given if isinstance(given, Mapping) else {"messages": given}
        if "messages" not in fields or not set(fields) <= {"messages", *OWN_FIELDS}:
            raise InputError(
                f'Expected a list of messages, or {{"messages": {EXAMPLE}}} with {", ".join(OWN_FIELDS)} where they '
                f"are wanted; got the keys {', '.join(map(shown, fields))}."
            )
        messages = fields["messages"]
        if not isinstance(messages, list | tuple) or not messages:
            raise InputError(f"messages: expected a list such as {EXAMPLE}, got {shown(messages)}.")
        tools, documents = (_list(fields.get(name), name) for name in ("tools", "documents"))
        variables = fields.get("chat_template_kwargs") or {}
        if not isinstance(variables, Mapping):
            raise InputError(f"chat_template_kwargs: expected an object, got {shown(variables)}.")
        if taken := sorted({"messages", "add_generation_prompt", *OWN_FIELDS} & set(variables)):
            raise InputError(f"chat_template_kwargs: {', '.join(taken)} has a place of its own. Take it out there.")
        checked = tuple(_message(number, message) for number, message in enumerate(messages))
        return cls(messages=checked, tools=tools, documents=documents, variables=variables)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A rendered conversation."""

    text: str
    spelled: tuple[tuple[int, int], ...]
    """(begin, end), in characters, of letters that look like a special token and are ordinary text."""


class ChatTemplate:
    """A checkpoint's chat template. Threads may share it."""

    def __init__(self, sources: Mapping[str, str], where: str, tokenizer: Tokenizer) -> None:
        self._sources = sources
        self._where = where
        self._named = tokenizer.named_tokens
        # A token of one character cannot be broken. The longer of two tokens that begin alike is meant.
        special = {token for token in (*tokenizer.special_tokens, *self._named.values()) if len(token) > 1}
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._compiled: dict[str, Template] = {}

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, tokenizer: Tokenizer) -> "ChatTemplate":
        """Read chat_template.jinja, or `chat_template` of tokenizer_config.json or chat_template.json.

        Raises:
            TokenizerError: the checkpoint has no template, or a template that is not a text.
        """
        found = cls.find(checkpoint, tokenizer)
        if found is None:
            raise TokenizerError(
                f"{checkpoint.having(TOKENIZER).folder} has no chat template: expected {FILE}, or chat_template in "
                "tokenizer_config.json. A model that was not trained for conversation has none: give it plain text. "
                f"If this one was, put its template there as {FILE}."
            )
        return found

    @classmethod
    def find(cls, checkpoint: Checkpoint, tokenizer: Tokenizer) -> "ChatTemplate | None":
        """Read the template as `from_checkpoint` does; None for a checkpoint without one.

        Raises:
            TokenizerError: a template that is not a text.
        """
        checkpoint = checkpoint.having(TOKENIZER)
        named = {path.stem: path for path in sorted((checkpoint.folder / FOLDER).glob("*.jinja"))}
        if checkpoint.has(FILE):
            named["default"] = checkpoint.folder / FILE
        if named:
            where = FILE if "default" in named else FOLDER
            sources = {name: _read_source(path) for name, path in named.items()}
            return cls(sources, str(checkpoint.folder / where), tokenizer)
        for name in ("tokenizer_config.json", "chat_template.json"):
            found = checkpoint.read_object(name).get("chat_template") if checkpoint.has(name) else None
            if found is not None:
                where = str(checkpoint.folder / name)
                sources = _named_sources(found, where)
                for source in sources.values():
                    _check_size(len(source), where)
                return cls(sources, where, tokenizer)
        return None

    @property
    def only_source(self) -> str | None:
        """The template, or None if there are several."""
        return self._sources.get("default") if len(self._sources) == 1 else None

    def mentions(self, name: str) -> bool:
        """Check whether a template names a variable, a key or a role."""
        return any(re.search(rf"\b{re.escape(name)}\b", source) for source in self._sources.values())

    def render(self, chat: Chat, *, continue_final_message: bool = False, add_generation_prompt: bool = True) -> Prompt:
        """Messages → the text that the model was trained to read, with its special tokens.

        Only the template writes special tokens. Where a message or another variable contains the letters of a special
        token, they stay letters, so that no message can end a turn by writing <|im_end|>.

        Arguments:
            chat: the conversation.
            continue_final_message: whether the model continues the last message.
            add_generation_prompt: whether the model begins an answer, unless it continues the last message.

        Raises:
            InputError: the template refuses the conversation, or a value in it is not JSON.
            TokenizerError: the template is damaged, or fails.
        """
        from triform.inputs.chat.template_language import compile_template, render

        name = self._choose(chat)
        if name not in self._compiled:
            self._compiled[name] = compile_template(self._sources[name], self._where)
        if continue_final_message:
            chat = replace(chat, messages=(*chat.messages[:-1], _with_end_mark(chat.messages[-1])))
        given = {"messages": chat.messages, "tools": chat.tools, "documents": chat.documents, **chat.variables}
        try:
            plain = _plain(given, str.__str__)  # also for a subclass of str with another __str__
            said = json.dumps(plain, ensure_ascii=False)
        except (RecursionError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"The conversation is not JSON: {error}.") from error
        mark = _unused_character(self._sources[name] + said)
        variables: dict[str, Any] = {**self._named} | _plain(plain, lambda text: self._broken(text, mark))
        # Not a variable of the conversation.
        variables["add_generation_prompt"] = add_generation_prompt and not continue_final_message
        text = render(self._compiled[name], variables, self._where, size=len(said))
        if continue_final_message:
            text = _up_to_end_mark(text, self._where)
        return self._without_marks(text, mark)

    def _choose(self, chat: Chat) -> str:
        for name in ("tool_use", "default") if chat.tools is not None else ("default",):
            if name in self._sources:
                return name
        raise TokenizerError(
            f"{self._where}: expected a chat template named default among {', '.join(self._sources)}. "
            f"Save the one that is meant as {FILE}."
        )

    def _broken(self, text: str, mark: str) -> str:
        """Put a mark behind the first letter of each special token in a text."""
        while self._special.search(text):
            text = self._special.sub(lambda found: found[0][0] + mark + found[0][1:], text)
        return text

    def _without_marks(self, text: str, mark: str) -> Prompt:
        parts = text.split(mark)
        clean = "".join(parts)
        breaks = list(accumulate(map(len, parts)))  # the last is the end of the text
        spans = (found.span() for found in self._special.finditer(clean)) if len(parts) > 1 else ()
        # The letters of a token came from a variable if the first break behind its beginning lies within it.
        spelled = [(begin, end) for begin, end in spans if breaks[bisect_right(breaks, begin)] < end]
        return Prompt(text=clean, spelled=tuple(spelled))


def _message(number: int, message: Any) -> Message:
    """Check a message, and give it the form that templates expect: no null values, parts of text joined."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputError(f'Message {number}: expected {{"role": …, "content": …}}, got {shown(message)}.')
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise InputError(f"Message {number} has no content: expected a text. Got {shown(message)}.")
    reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
    read = message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}
    known = {key: value for key, value in read.items() if value is not None}
    if content is not None and not isinstance(content, str):
        known["content"] = "".join(_part(number, part) for part in _list(content, f"content of message {number}") or ())
    return known


def _part(number: int, part: Any) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InputError(f'Message {number}: expected parts such as {{"type": "text", "text": …}}, got {shown(part)}.')


def _list(value: Any, name: str) -> list[Any] | None:
    if value is not None and not isinstance(value, list | tuple):
        raise InputError(f"{name}: expected a list, got {shown(value)}.")
    return None if value is None else list(value)


def _read_source(path: Path) -> str:
    """Read the file of a template.

    Raises:
        TokenizerError: the file is large, is not a regular file, cannot be read, or is not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TokenizerError(f"{path} is not a regular file. Fetch it again.")
        _check_size(status.st_size, str(path))
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8: {error}. Fetch it again.") from error
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}.") from error


def _check_size(size: int, where: str) -> None:
    if size > MAX_TEMPLATE:
        raise TokenizerError(
            f"{where}: a chat template of {size:,} bytes, expected at most {MAX_TEMPLATE:,}. Is it another file?"
        )


def _named_sources(found: Any, where: str) -> dict[str, str]:
    """Read one template, or a list of templates with names: name → template."""
    entries = found if isinstance(found, list) else [{"name": "default", "template": found}]
    sources = {}
    for entry in entries:
        name, source = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            raise TokenizerError(
                f"{where}: chat_template must be a text, or a list of "
                f'{{"name": …, "template": …}}, got {entry!r}. Fetch the file again.'
            )
        sources[name] = source
    return sources


def _with_end_mark(message: Message) -> Message:
    if not isinstance(message.get("content"), str):
        raise InputError(f"continue_final_message: the last message has no text to continue: {shown(message)}.")
    return {**message, "content": message["content"] + END_MARK}


def _up_to_end_mark(text: str, where: str) -> str:
    """Cut a text at the end of its last message, and trim it if the template trims messages."""
    place = text.rfind(END_MARK.strip())
    if place < 0:
        raise InputError(
            f"continue_final_message: the last message does not come through {where}, so that nothing can be put "
            "behind it. End the conversation with a message of the user."
        )
    kept = text[:place]
    return kept if text.startswith(END_MARK, place) else kept.rstrip()


def _unused_character(text: str) -> str:
    """Find a character of the planes 15 and 16, for private use, that does not occur in a text.

    Raises:
        InputError: all of them occur.
    """
    used = set(text)
    for mark in map(chr, range(0xF0000, 0x110000)):
        if mark not in used:
            return mark
    raise InputError(
        "The conversation holds every character for private use, U+F0000 to U+10FFFF; one of them must be free to mark "
        "the special tokens that messages spell. Take them out."
    )


def _plain(value: Any, change: Callable[[str], str]) -> Any:
    """Copy JSON values and change their texts.

    Raises:
        InputError: a value is not JSON, and a template could call its methods.
    """
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {change(key): _plain(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, change) for item in value]
    raise InputError(f"Expected texts, numbers, lists and objects in a conversation, got {shown(value)}.")
