"""Calls of tools in generated text, in the form in which a chat template writes them. Knows no model by name.

The form is found by a trial: the template writes a conversation with a call whose name is known, and what stands
around the call's JSON is the form.
"""

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

from triform.errors import InputError, TokenizerError
from triform.inputs.chat.template import Chat, ChatTemplate

NAME, KEY, VALUE = "probe_function", "probe_key", "probe_value"
ARGUMENTS = ("arguments", "parameters")
"""Keys of a call's arguments."""
FILLING = " \t\r\n[],;"
"""Characters between calls."""


class CallForm(NamedTuple):
    """The form of a call: opening, a JSON object with `name` and arguments, closing."""

    opening: str = ""
    """The mark before the JSON, without spaces around it; empty where the answer is the JSON."""
    closing: str = ""
    arguments: str = "arguments"
    """The key of the arguments."""


class ToolCall(NamedTuple):
    """A call of a tool."""

    id: str
    name: str
    arguments: str
    """JSON in a text."""


@lru_cache(32)
def find_form(template: ChatTemplate, special_tokens: frozenset[str]) -> CallForm | None:
    """Find the form in which a template writes calls; None for a form without JSON, or if the template refuses."""
    function = {"name": NAME, "description": "", "parameters": {"type": "object", "properties": {}}}
    asked = {"role": "user", "content": "."}
    call = {"id": "call12345", "type": "function", "function": {"name": NAME, "arguments": {KEY: VALUE}}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    tools = [{"type": "function", "function": function}]
    try:
        before = template.render(Chat.read({"messages": [asked], "tools": tools})).text
        chat = Chat.read({"messages": [asked, said], "tools": tools})
        after = template.render(chat, add_generation_prompt=False).text
    except (InputError, TokenizerError):
        return None
    common = next((n for n, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))
    tail = after[common:]
    place = tail.find("{")
    while place >= 0:
        found, length = _read_json(tail[place:])
        if isinstance(found, dict) and found.get("name") == NAME:
            key = next((key for key in ARGUMENTS if found.get(key) == {KEY: VALUE}), None)
            if key is not None:
                opening = tail[:place].strip().removesuffix("[").rstrip()
                ends = (tail.find(token, place) for token in special_tokens)
                end = min((end for end in ends if end >= 0), default=len(tail))
                closing = tail[place + length : end].strip().removeprefix("]").lstrip()
                return CallForm(opening, closing if opening else "", key)
        place = tail.find("{", place + 1)
    return None


def _read_json(text: str) -> tuple[Any, int]:
    """Read the JSON value at the beginning of a text, and its length; (None, 0) without one."""
    try:
        return json.JSONDecoder(parse_constant=_refuse).raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0


def _refuse(name: str) -> None:
    raise ValueError(name)


class Place(Enum):
    """Where a reader is in the text."""

    START = auto()
    """Before any letter, where calls have no opening."""
    TEXT = auto()
    CALL = auto()
    """Behind the opening of a call."""
    CLOSING = auto()
    """Behind the JSON of a call."""
    AFTER = auto()
    """Behind a call, before any letter."""


@dataclass(kw_only=True)
class ToolCallReader:
    """Tells calls in a text from other text, as it comes. What does not parse as a call stays text.

    Arguments:
        form: how the model writes a call.
        names: the tools that it may call.
        most: the most calls, whereafter text is ignored; None for any number.
    """

    form: CallForm
    names: Collection[str]
    most: int | None = None
    num_calls: int = 0
    """Calls read so far."""
    _held: str = ""
    """Text not yet told apart."""
    _place: Place = field(init=False)

    def __post_init__(self) -> None:
        self._place = Place.TEXT if self.form.opening else Place.START

    @property
    def is_done(self) -> bool:
        """Check whether there are as many calls as may be."""
        return self.most is not None and self.num_calls >= self.most

    def add(self, piece: str, *, is_end: bool = False) -> tuple[str, list[ToolCall]]:
        """Add a piece of text; return text that belongs to no call, and the calls that are complete."""
        self._held += piece
        content: list[str] = []
        calls: list[ToolCall] = []
        goes_on = "}" in piece or is_end or self._place is not Place.CALL
        while goes_on and not self.is_done:
            before = self._place
            match before:
                case Place.START | Place.AFTER:
                    self._begin(before)
                case Place.TEXT:
                    content.append(self._take_text())
                case Place.CALL:
                    calls += self._take_call()
                case Place.CLOSING:
                    self._skip_closing(is_end)
            goes_on = self._place is not before
        if is_end and not self.is_done:
            content.append(self._held)
            self._held = ""
        return "".join(content), calls

    def _begin(self, place: Place) -> None:
        """Find out what comes first: a call without an opening, or text. Spaces behind a call belong to neither."""
        begin = self._held.lstrip(FILLING)
        if begin:
            is_call = place is Place.START and begin.startswith("{")
            self._place = Place.CALL if is_call else Place.TEXT
        if place is Place.AFTER or self._place is Place.CALL:
            self._held = begin

    def _take_text(self) -> str:
        """Take the text before the next call."""
        opening, text = self.form.opening, self._held
        if not opening:
            self._held = ""
            return text
        place = text.find(opening)
        if place >= 0:
            self._held, self._place = text[place:], Place.CALL
            return text[:place]
        longest = min(len(opening) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if opening.startswith(text[-n:])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def _take_call(self) -> list[ToolCall]:
        """Take the call at the beginning of the held text; none if it is not complete, or not a call."""
        rest = self._held.removeprefix(self.form.opening).lstrip(FILLING)
        found, length = _read_json(rest)
        call = None if found is None else self._call_of(found)
        if call is None:
            return []
        self._held, self._place = rest[length:], Place.CLOSING
        self.num_calls += 1
        return [call]

    def _skip_closing(self, is_end: bool) -> None:
        """Skip the closing of a call, and find out whether another follows at once."""
        text, closing = self._held.lstrip(FILLING), self.form.closing
        if text.startswith("{"):
            self._held, self._place = text, Place.CALL
        elif closing and text.startswith(closing):
            self._held, self._place = text.removeprefix(closing), Place.AFTER
        elif is_end or (text and not closing.startswith(text)):
            self._place = Place.AFTER

    def _call_of(self, found: Any) -> ToolCall | None:
        if not isinstance(found, dict) or found.get("name") not in self.names:
            return None
        arguments: Any = next((found[key] for key in (self.form.arguments, *ARGUMENTS) if key in found), {})
        if isinstance(arguments, str):
            arguments, _ = _read_json(arguments)
        if not isinstance(arguments, dict):
            return None
        return ToolCall(f"call_{uuid.uuid4().hex[:24]}", found["name"], json.dumps(arguments, ensure_ascii=False))
