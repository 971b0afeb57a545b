"""Texts as messages of a chat template, as sentence-transformers renders them for a model that reads messages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from triform.errors import InputError, UnsupportedModelError
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model
from triform.tasks.sequence_level.sentence_settings import MessageFormat, MessageSettings

if TYPE_CHECKING:
    from triform.inputs.chat.template import ChatTemplate, Message, Prompt

PAIR_ROLES = ("query", "document")
FLAT_MODELS = ("apertus", "deepseek_v3", "gpt_oss", "seed_oss")
"""Model types whose templates read a text as the content of a message, whatever else they mention."""
SIGNS_OF_PARTS = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
"""Parts of a template that reads the content of a message as a list of parts."""
PROBES = (("alpha", "bravo"), ("charlie", "bravo"), ("alpha", "foxtrot"))
"""A pair, then a pair with another query, then one with another document."""


class Messages:
    """Renders a text as a message of the user, and a pair as messages of the roles query and document."""

    def __init__(self, template: "ChatTemplate", tokenizer: Tokenizer, settings: MessageSettings, where: str) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._settings = settings
        self._where = where
        self._has_pairs = False

    @classmethod
    def of_model(cls, model: Model, tokenizer: Tokenizer, settings: MessageSettings | None) -> Self | None:
        """Find the chat template of a model that reads messages; None for a model that reads plain text.

        Raises:
            TokenizerError: the settings name messages, and the model has no chat template.
        """
        if settings is None:
            return None
        from triform.inputs.chat.template import ChatTemplate

        checkpoint = model.checkpoint
        if settings.format is not MessageFormat.AUTO:
            template = ChatTemplate.from_checkpoint(checkpoint, tokenizer)
        elif (found := ChatTemplate.find(checkpoint, tokenizer)) is not None:
            is_flat = checkpoint.read_object("config.json").get("model_type") in FLAT_MODELS
            source = found.only_source
            is_flat |= source is not None and not any(sign in source for sign in SIGNS_OF_PARTS)
            settings = settings._replace(format=MessageFormat.FLAT if is_flat else MessageFormat.STRUCTURED)
            template = found
        else:
            return None
        return cls(template, tokenizer, settings, str(checkpoint.folder))

    def encode_texts(self, texts: Sequence[str], prompt: str, limit: int | None) -> list[EncodedText]:
        """Encode texts, with a prompt as the message of the system.

        Raises:
            InputError: a text is too long, or the template refuses it.
        """
        before = (self._message("system", prompt),) if prompt else ()
        return [
            self._encode(number, (*before, self._message("user", text)), limit) for number, text in enumerate(texts)
        ]

    def encode_pairs(self, query: str, documents: Sequence[str], limit: int | None) -> list[EncodedText]:
        """Encode pairs of a query and a document.

        Raises:
            InputError: a pair is too long, or the template refuses it.
            UnsupportedModelError: the template leaves a query or a document out.
        """
        self._check_pairs()
        return [
            replace(self._encode(number, self._pair(query, document), limit), pair=document)
            for number, document in enumerate(documents)
        ]

    def _pair(self, *texts: str) -> "tuple[Message, ...]":
        return tuple(self._message(role, text) for role, text in zip(PAIR_ROLES, texts, strict=True))

    def _message(self, role: str, text: str) -> "Message":
        is_flat = self._settings.format is MessageFormat.FLAT
        content: Any = text if is_flat else [{"type": "text", "text": text}]
        return {"role": role, "content": content}

    def _render(self, messages: "tuple[Message, ...]") -> "Prompt":
        from triform.inputs.chat.template import Chat

        chat = Chat(messages=messages, variables={})
        return self._template.render(chat, add_generation_prompt=self._settings.add_generation_prompt)

    def _encode(self, number: int, messages: "tuple[Message, ...]", limit: int | None) -> EncodedText:
        prompt = self._render(messages)
        encoded = self._tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled)
        if limit is not None and len(encoded.ids) > limit:
            raise InputError(
                f"Text {number} has {len(encoded.ids)} tokens as a message of the chat template, more than the {limit} "
                "that fit. Shorten it: Triform cuts no text within a chat template."
            )
        return encoded

    def _check_pairs(self) -> None:
        """Render three pairs, as sentence-transformers does, and refuse a template that does not tell them apart."""
        if self._has_pairs:
            return
        try:
            base, *others = (self._render(self._pair(*pair)).text for pair in PROBES)
            lost = [role for role, other in zip(PAIR_ROLES, others, strict=True) if other == base]
            failure = f"the content of the role {' and '.join(lost)} is not in the rendered text" if lost else None
        except InputError as error:
            failure = str(error)
        if failure is not None:
            raise UnsupportedModelError(
                f"{self._where}: the model reads messages, as its tokenizer has a chat template; expected a template "
                f"for the roles {' and '.join(PAIR_ROLES)}: {failure}. Put such a template beside the model, or take "
                "the chat template away if the model was trained on plain pairs."
            )
        self._has_pairs = True
