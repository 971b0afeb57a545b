"""Text → tokens → text. One path, and the form of the body by its keys.

/tokenize reads `inputs` (text-embeddings-inference), `content` (llama-server), or `prompt` or `messages` (vLLM).
/decode is text-embeddings-inference's, /detokenize llama-server's and vLLM's. A special token that a text spells is
that token, as in every text that a model reads, unless `parse_special` is false; in messages it stays letters.
"""

import re
from typing import Any

import msgspec

from triform.inputs import EncodedText, Tokenizer
from triform.inputs.chat.template import Chat
from triform.serving.call import Call
from triform.serving.endpoint import Form, Route
from triform.serving.errors import ApiError, Dialect
from triform.serving.models import has_chat_template
from triform.serving.texts import check_ids, prompt_of, read_inputs, text_task, tokenizer_of
from triform.tasks.generative.text_generation import TextGeneration

GENERATION = "text-generation"


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /tokenize in the form of text-embeddings-inference."""

    inputs: str | list[str]
    add_special_tokens: bool | None = None
    prompt_name: str | None = None
    model: str | None = None


async def tokenize(call: Call, body: TokenizeRequest) -> list[list[dict[str, Any]]]:
    """Answer with the tokens of each text, and their places in the text in characters."""
    served = call.find(body.model)
    inputs = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    call.check_count(len(inputs), "inputs")
    read_inputs(list(inputs))
    prompt = "" if body.prompt_name is None else prompt_of(served, body.prompt_name)
    texts = [prompt + text for text in inputs]
    tokenizer = tokenizer_of(served)

    def work() -> list[list[dict[str, Any]]]:
        encoded = tokenizer.encode(texts, special_tokens=body.add_special_tokens is not False)
        return [_tokens(text) for text in encoded]

    return await call.in_pool(work, sum(map(len, texts)))


def _tokens(text: EncodedText) -> list[dict[str, Any]]:
    found = []
    for id, token, (start, stop), sequence in zip(
        text.ids.tolist(), text.tokens, text.characters.tolist(), text.sequence_ids, strict=True
    ):
        special = sequence is None
        places = {"start": None, "stop": None} if special else {"start": start, "stop": stop}
        shown = token if special else text.text[start:stop]
        found.append({"id": id, "text": shown, "special": special, **places})
    return found


class DecodeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /decode."""

    ids: list[int | list[int]]
    skip_special_tokens: bool | None = None
    model: str | None = None


async def decode(call: Call, body: DecodeRequest) -> list[str]:
    """Answer with the text of ids."""
    served = call.find(body.model)
    call.check_count(len(body.ids), "ids")
    rows = _rows(body.ids)
    for number, ids in enumerate(rows):
        check_ids(served, ids, "ids" if len(rows) == 1 else f"ids[{number}]")
    tokenizer, skips = tokenizer_of(served), body.skip_special_tokens is not False

    def work() -> list[str]:
        return [tokenizer.decode(ids, skip_special_tokens=skips) for ids in rows]

    return await call.in_pool(work, sum(map(len, rows)))


def _rows(ids: list[int | list[int]]) -> list[list[int]]:
    """Read the ids of one text, or of several."""
    read = read_inputs(list(ids), "ids")
    return [each for each in read if isinstance(each, list)]


class ContentRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /tokenize in the form of llama-server."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False
    model: str | None = None


async def tokenize_content(call: Call, body: ContentRequest) -> dict[str, Any]:
    """Answer with ids, or with ids and the text of each."""
    served = call.find(body.model)
    tokenizer = tokenizer_of(served)
    if not body.parse_special and body.add_special:
        raise ApiError(400, "parse_special: false goes with add_special false alone.", param="parse_special")

    def work() -> list[Any]:
        if not body.content and not body.add_special:
            return []
        if body.parse_special:
            [encoded] = tokenizer.encode([body.content], special_tokens=body.add_special)
        else:
            encoded = tokenizer.encode_rendered(body.content, spelled=_spelled(tokenizer, body.content))
        ids: list[int] = encoded.ids.tolist()
        if not body.with_pieces:
            return ids
        return [{"id": id, "piece": _piece(tokenizer, id)} for id in ids]

    return {"tokens": await call.in_pool(work, len(body.content))}


def _piece(tokenizer: Tokenizer, id: int) -> str | list[int]:
    """Return the text of a token, or its bytes where they are a part of a character."""
    own = tokenizer.bytes_of(id)
    try:
        return own.decode()
    except UnicodeDecodeError:
        return list(own)


def _spelled(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """Find the letters of special tokens in a text; the longer of two that begin alike is meant."""
    names = sorted((token for token in tokenizer.special_tokens if len(token) > 1), key=len, reverse=True)
    pattern = "|".join(map(re.escape, names)) or r"(?!)"
    return [found.span() for found in re.finditer(pattern, text)]


class PromptRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /tokenize in the form of vLLM."""

    prompt: str | None = None
    messages: list[Any] | None = None
    tools: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    model: str | None = None


async def tokenize_prompt(call: Call, body: PromptRequest) -> dict[str, Any]:
    """Answer with the ids of a text or of a conversation, their number, and the most that the model reads."""
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "prompt: expected either prompt or messages.", param="prompt")
    served = call.find(body.model, *(() if body.messages is None else (GENERATION,)))
    task = text_task(served.task(GENERATION) if body.messages is not None else served.main_task)

    def work() -> list[int]:
        if body.prompt is not None:
            special = body.add_special_tokens is not False
            [encoded] = task.tokenizer.encode([body.prompt], special_tokens=special)
        else:
            if body.add_special_tokens:
                raise ApiError(400, "add_special_tokens: the chat template writes them.", param="add_special_tokens")
            prompt = rendered(task, body)
            encoded = task.tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled)
        ids: list[int] = encoded.ids.tolist()
        return ids

    ids = await call.in_pool(work, len(body.prompt or "") + 100 * len(body.messages or ()))
    return {"count": len(ids), "max_model_len": task.limit(), "tokens": ids}


def rendered(task: Any, body: Any) -> Any:
    """Render a conversation by the chat template of a model.

    Raises:
        ApiError: the model has no chat template.
        InputError: the template refuses the conversation.
    """
    assert isinstance(task, TextGeneration)
    if not has_chat_template(task):
        raise ApiError(400, "messages: the model has no chat template.", param="messages")
    given = {"messages": body.messages, "tools": body.tools, "chat_template_kwargs": body.chat_template_kwargs}
    return task.chat_template.render(
        Chat.read(given),
        continue_final_message=body.continue_final_message,
        add_generation_prompt=body.add_generation_prompt,
    )


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /detokenize."""

    tokens: list[int]
    model: str | None = None


async def detokenize(call: Call, body: DetokenizeRequest) -> dict[str, str]:
    """Answer with the text of ids, special tokens included."""
    served = call.find(body.model)
    check_ids(served, body.tokens, "tokens")
    tokenizer = tokenizer_of(served)
    text = await call.in_pool(lambda: tokenizer.decode(body.tokens, skip_special_tokens=False), 4 * len(body.tokens))
    return {"content": text, "prompt": text}


ROUTES = (
    Route(
        paths=["/tokenize"],
        body=TokenizeRequest,
        handler=tokenize,
        dialect=Dialect.EMBEDDINGS,
        forms=(
            Form(key="content", body=ContentRequest, handler=tokenize_content, dialect=Dialect.OPENAI),
            Form(key="prompt", body=PromptRequest, handler=tokenize_prompt, dialect=Dialect.OPENAI),
            Form(key="messages", body=PromptRequest, handler=tokenize_prompt, dialect=Dialect.OPENAI),
        ),
        summary="The tokens of texts or of a conversation.",
    ),
    Route(
        paths=["/decode"], body=DecodeRequest, handler=decode, dialect=Dialect.EMBEDDINGS, summary="The text of ids."
    ),
    Route(paths=["/detokenize"], body=DetokenizeRequest, handler=detokenize, summary="The text of ids."),
)
