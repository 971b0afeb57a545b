"""llama-server: what the chat template makes of a conversation, and what the server is doing."""

from time import monotonic
from typing import Any

import msgspec

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError
from triform.serving.jobs import GenerationJob
from triform.serving.models import ServedModel, has_chat_template
from triform.serving.routes.tokenize import rendered
from triform.tasks.generative.text_generation import TextGeneration
from triform.tasks.text_task import TextTask
from triform.version import __version__

TASK = "text-generation"


class TemplateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /apply-template."""

    messages: list[Any]
    tools: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    model: str | None = None


async def apply_template(call: Call, body: TemplateRequest) -> dict[str, str]:
    """Answer with the text that the model reads for a conversation."""
    task = call.find(body.model, TASK).task(TASK)
    prompt = await call.in_pool(lambda: rendered(task, body), 100 * len(body.messages))
    return {"prompt": prompt.text}


async def props(call: Call, body: None) -> dict[str, Any]:
    """Answer with what the server and the model that writes text are."""
    served = _writer(call)
    task = served.tasks.get(TASK, served.main_task)
    template = None
    if isinstance(task, TextGeneration) and has_chat_template(task):
        template = task.chat_template.only_source
    limit = task.limit() if isinstance(task, TextTask) else None
    return {
        "total_slots": call.settings.max_running,
        "model_alias": served.name,
        "chat_template": template or "",
        "default_generation_settings": {"n_ctx": limit, "n_predict": call.settings.max_new_tokens},
        "modalities": {"vision": False, "audio": False},
        "build_info": f"triform {__version__}",
    }


def _writer(call: Call) -> ServedModel:
    """Find the model of the query, or the first that writes text, or the first."""
    models = list(call.state.registry.models.values())
    if name := call.query.get("model"):
        return call.find(name)
    served = next((model for model in models if TASK in model.tasks), models[0])
    call.model_name = served.name
    return served


async def slots(call: Call, body: None) -> list[dict[str, Any]]:
    """Answer with the requests that generate now, without their texts, and with free slots.

    Raises:
        ApiError: 503 where `fail_on_no_slot` is set and no slot is free.
    """
    found: list[dict[str, Any]] = []
    for lane in call.state.executor.lanes.values():
        for job in list(lane.running):
            found.extend(_slots(job))
    num_free = max(0, call.settings.max_running - len(found))
    if call.query.get("fail_on_no_slot", "0") not in ("0", "") and not num_free:
        raise ApiError(503, "No slot is free.", kind="unavailable_error", code="unavailable")
    rows = [*found, *({"state": "idle", "is_processing": False} for _ in range(num_free))]
    return [{"id": number, **row} for number, row in enumerate(rows)]


def _slots(job: GenerationJob) -> list[dict[str, Any]]:
    return [
        {
            "state": "reading" if request.is_unread else "writing",
            "is_processing": True,
            "model": job.served.name,
            "n_prompt_tokens": len(request.prompt) + request.num_source_tokens,
            "n_decoded": len(sequence.new_ids),
            "age": round(monotonic() - job.arrived, 3),
        }
        for request in job.requests
        for sequence in list(request.sequences)
    ]


ROUTES = (
    Route(paths=["/apply-template"], body=TemplateRequest, handler=apply_template, summary="A conversation as text."),
    Route(paths=["/props"], method="GET", handler=props, summary="What the server is."),
    Route(paths=["/slots"], method="GET", handler=slots, is_light=True, summary="The requests that generate now."),
)
