"""The list of models. https://platform.openai.com/docs/api-reference/models. And the tokens that evaluations need."""

from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import unavailable
from triform.serving.models import ServedModel, has_chat_template
from triform.spec import Decoder, Encoder
from triform.tasks.generative.text_generation import TextGeneration


async def models(call: Call, body: None) -> dict[str, Any]:
    """Answer with all models."""
    _check_loaded(call)
    return {"object": "list", "data": [_entry(served) for served in call.state.registry.models.values()]}


async def model(call: Call, body: None) -> dict[str, Any]:
    """Answer with one model."""
    _check_loaded(call)
    return _entry(call.find(None))


async def tokenizer_info(call: Call, body: None) -> dict[str, Any]:
    """Answer with the special tokens and the chat template of the model that writes text."""
    _check_loaded(call)
    task = call.find(None, "text-generation").task("text-generation")
    assert isinstance(task, TextGeneration)
    info: dict[str, Any] = {f"{role}_token": task.tokenizer.special(f"{role}_token") for role in ("bos", "eos", "pad")}
    return {**info, "chat_template": task.chat_template.only_source if has_chat_template(task) else None}


def _check_loaded(call: Call) -> None:
    """Refuse while the models load: an empty list would look like a server without models."""
    if call.state.status.problem is not None:
        raise unavailable(call.state.status.problem)


def _entry(served: ServedModel) -> dict[str, Any]:
    form = served.model.spec.form
    name = "encoder" if isinstance(form, Encoder) else "decoder" if isinstance(form, Decoder) else "encoder-decoder"
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "triform",
        "max_model_len": served.model.spec.input_stack.context_length,
        "tasks": list(served.tasks),
        "form": name,
    }


ROUTES = (
    Route(paths=["/v1/models", "/models"], method="GET", handler=models, is_light=True, summary="The models."),
    Route(
        paths=["/v1/models/{model}", "/models/{model}"],
        method="GET",
        handler=model,
        is_light=True,
        summary="A model: its tasks, form and context.",
    ),
    Route(
        paths=["/tokenizer_info", "/models/{model}/tokenizer_info"],
        method="GET",
        handler=tokenizer_info,
        is_light=True,
        summary="Special tokens and chat template, for lm-evaluation-harness.",
    ),
)
