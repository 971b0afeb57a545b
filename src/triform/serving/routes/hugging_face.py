"""Hugging Face's inference: `{inputs, parameters}` for every task, as `huggingface_hub.InferenceClient` sends it.

The task is the path's, or follows from the form of `inputs` and `parameters`, or is the model's main task. Answers have
the shape that InferenceClient reads; parameters are options of the task by their names.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from triform.errors import InputError
from triform.inputs import LongInput
from triform.serving.body import check_known
from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError, Dialect
from triform.serving.models import ServedModel
from triform.serving.parameters import options_of
from triform.serving.routes.text_generation import generate
from triform.serving.texts import encoder, naming, prompt_of, side_of, text_task
from triform.spec import SequenceHead
from triform.tasks import Task, find_task
from triform.tasks.generative.generative_task import GenerativeTask
from triform.tasks.runner import num_characters
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding
from triform.tasks.sequence_level.sentence_settings import MODULES
from triform.tasks.text_task import TextOptions

OLD_OPTIONS = {"use_cache", "wait_for_model", "use_gpu", "dont_load_model"}
"""Options of the older API about its queue and cache, which change no answer."""
NEEDS_MORE = ("text-ranking", "zero-shot-classification", "sentence-similarity", "question-answering")
"""Tasks whose input is more than a text: a request that holds a text alone means another task of the model."""
TRUNCATIONS = {
    "do_not_truncate": LongInput.ERROR,
    "longest_first": LongInput.TRUNCATE,
    "only_first": LongInput.TRUNCATE,
}
FIRST_WITH_LISTS = (1, 2)
"""The version of huggingface_hub from which zero-shot-classification is read as a list."""


class FeatureFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of feature-extraction, which stand beside `inputs` or in `parameters`."""

    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None

    @staticmethod
    def read(parameters: Mapping[str, Any], body: "PipelineRequest") -> "FeatureFields":
        check_known(dict(parameters), set(FeatureFields.__struct_fields__), "parameters")
        try:
            return msgspec.convert({**parameters, **body.flat()}, FeatureFields)
        except msgspec.ValidationError as error:
            message = str(error)
            found = re.search(r"\$\.(\w+)", message)
            param = f"parameters.{found[1]}" if found else "parameters"
            raise ApiError(400, f"{param}: {message}.", param=param) from error


class PipelineRequest(FeatureFields, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    inputs: Any
    parameters: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None
    model: str | None = None

    def flat(self) -> dict[str, Any]:
        """Return the fields beside `inputs` that are set."""
        names = FeatureFields.__struct_fields__
        return {name: value for name in names if (value := getattr(self, name)) is not None}


async def answer(call: Call, body: PipelineRequest) -> Any:
    """Answer inputs by a task."""
    check_known(body.options or {}, OLD_OPTIONS, "options")
    parameters = {name: value for name, value in (body.parameters or {}).items() if value is not None}
    served, name = _choose(call, body, parameters)
    if name == "text-generation":
        _check_flat(body, name)
        return await generate(call, served, body.inputs, parameters, streams=bool(body.stream), as_list=True)
    if body.stream:
        raise ApiError(400, f"stream: {name} answers whole. Leave it out.", param="stream")
    if name in ("feature-extraction", "sentence-embedding"):
        return await _vectors(call, served, body, parameters)
    _check_flat(body, name)
    task = served.task(name)
    options = _options(call, task, parameters)
    is_one, inputs = _inputs(call, task, body.inputs)
    if name == "text-classification" and "top_k" not in options:
        head = served.model.spec.head
        assert isinstance(head, SequenceHead)
        options["top_k"] = len(head.labels)
    size = num_characters(inputs) * _num_copies(call, name, inputs, options)
    answers = await call.answers(served, task, inputs, size=size, **options)
    if name == "zero-shot-classification" and _reads_lists(call.headers.get("user-agent", "")):
        answers = [
            [{"label": label, "score": score} for label, score in zip(each["labels"], each["scores"], strict=True)]
            for each in answers
        ]
    if is_one and name not in ("text-classification", "summarization", "translation", "text2text-generation"):
        return answers[0]
    if is_one and isinstance(task, GenerativeTask) and isinstance(answers[0], list):
        return answers[0]  # several answers to a text
    return answers


def _choose(call: Call, body: PipelineRequest, parameters: Mapping[str, Any]) -> tuple[ServedModel, str]:
    """Choose the model and the task: by the path, by what the body holds, or the model's main task."""
    if wanted := call.path.get("task"):
        try:
            name = find_task(wanted).name
        except InputError as error:
            raise ApiError(404, f"task: {error}", code="not_found", param="task") from error
        return call.find(body.model, *_able(name)), name
    found = _task_of(body, parameters)
    served = call.find(body.model, *(_able(found) if found else ()))
    if found:
        return served, found
    simple = [name for name in served.tasks if name not in NEEDS_MORE]
    return served, simple[0] if simple else served.main_task.name


def _able(name: str) -> tuple[str, ...]:
    """Return the tasks of which a model must be able to do one, to do a task."""
    return (name, "sentence-embedding") if name == "feature-extraction" else (name,)


def _task_of(body: PipelineRequest, parameters: Mapping[str, Any]) -> str | None:
    """Find the task that the form of a body shows, or None."""
    given = body.inputs
    first = given[0] if isinstance(given, list) and given else given
    keys = set(first) if isinstance(first, dict) else set()
    if "candidate_labels" in parameters:
        return "zero-shot-classification"
    if "question" in keys:
        return "question-answering"
    if "source_sentence" in keys:
        return "sentence-similarity"
    if "query" in keys:
        return "text-ranking"
    if "text" in keys:
        return "text-classification"
    if "messages" in keys or "role" in keys:
        return "text-generation"
    if "src_lang" in parameters or "tgt_lang" in parameters:
        return "translation"
    return "feature-extraction" if body.flat() else None


def _check_flat(body: PipelineRequest, name: str) -> None:
    for each in body.flat():
        raise ApiError(400, f"{each}: {name} has no such field. Its options go into parameters.", param=each)


def _num_copies(call: Call, name: str, inputs: list[Any], options: Mapping[str, Any]) -> int:
    """Count the sequences that repeat a text of an input: one for each label, or for each document.

    Raises:
        ApiError: too many labels.
    """
    if name == "zero-shot-classification":
        labels = options.get("candidate_labels")
        count = labels.count(",") + 1 if isinstance(labels, str) else len(labels) if isinstance(labels, list) else 1
        call.check_count(count, "parameters.candidate_labels")
        return count
    if name == "text-ranking":
        found = [each.get("documents") for each in inputs if isinstance(each, dict)]
        return max((len(documents) for documents in found if isinstance(documents, list)), default=1) or 1
    return 1


def _inputs(call: Call, task: Task[Any, Any], given: Any) -> tuple[bool, list[Any]]:
    """Read one input, or a list of them → whether it is one, and the list."""
    is_one = task.is_one(given, task.options)
    if not is_one and not isinstance(given, list):
        raise ApiError(400, f"inputs: expected {task.input_name}, or a list of {task.input_name}s.", param="inputs")
    inputs = [given] if is_one else given
    call.check_count(len(inputs), "inputs")
    for each in inputs:
        for name in ("sentences", "documents"):
            if isinstance(each, dict) and isinstance(each.get(name), list):
                call.check_count(len(each[name]), f"inputs.{name}")
    return is_one, inputs


def _options(call: Call, task: Task[Any, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters as options of a task.

    Raises:
        ApiError: naming a parameter that the task has not.
    """
    given = dict(parameters)
    options: dict[str, Any] = {}
    if isinstance(task, GenerativeTask):
        if given.pop("clean_up_tokenization_spaces", False):
            at = "parameters.clean_up_tokenization_spaces"
            raise ApiError(400, f"{at}: expected false: texts are given as they are.", param=at)
        inner = given.pop("generate_parameters", {})
        if not isinstance(inner, dict):
            at = "parameters.generate_parameters"
            raise ApiError(400, f"{at}: expected an object.", param=at)
        given |= {name: value for name, value in inner.items() if value is not None}
    if issubclass(task.options_type, TextOptions):
        options |= call.long_input(None)
        if "truncation" in given:
            options["long_input"] = _truncation(given.pop("truncation"))
    return {**options, **options_of(type(task), given)}


def _truncation(given: Any) -> LongInput:
    if isinstance(given, bool):
        return LongInput.TRUNCATE if given else LongInput.ERROR
    if not isinstance(given, str) or given not in TRUNCATIONS:
        at = "parameters.truncation"
        raise ApiError(400, f"{at}: expected true, false, or one of {', '.join(TRUNCATIONS)}.", param=at)
    return TRUNCATIONS[given]


async def _vectors(call: Call, served: ServedModel, body: PipelineRequest, parameters: Mapping[str, Any]) -> list[Any]:
    """Answer with a vector for each text where the model pools, as modules.json says, or else for each token."""
    flat = FeatureFields.read(parameters, body)
    if flat.encoding_format not in (None, "float"):
        raise ApiError(400, "encoding_format: expected float, the only one here.", param="encoding_format")
    side = side_of(flat.truncation_direction)
    embedding = served.tasks.get(SentenceEmbedding.name)
    wants_one = find_task(call.path.get("task", "feature-extraction")) is SentenceEmbedding
    if isinstance(embedding, SentenceEmbedding) and (wants_one or embedding.recipe.checkpoint.has(MODULES)):
        is_one, inputs = _inputs(call, embedding, body.inputs)
        with naming("truncate_dim", "dimensions"):
            return await call.answers(
                served,
                embedding,
                inputs,
                normalize=flat.normalize,
                prompt_name=flat.prompt_name,
                truncate_dim=flat.dimensions,
                truncation_side=side,
                **call.long_input(flat.truncate),
            )
    for name in ("normalize", "dimensions"):
        if getattr(flat, name):
            raise ApiError(400, f"{name}: model {served.name} answers with a vector for each token.", param=name)
    task = text_task(served.task("feature-extraction"))
    is_one, inputs = _inputs(call, task, body.inputs)
    if not all(isinstance(each, str) for each in inputs):
        raise ApiError(400, "inputs: expected a text, or a list of texts.", param="inputs")
    prompt = prompt_of(served, flat.prompt_name)
    encode = encoder(task, prompt, cuts=call.cuts(flat.truncate), side=side)
    answers = await call.answers(served, task, inputs, encode=encode)
    return list(answers[0]) if is_one else answers


def _reads_lists(user_agent: str) -> bool:
    """Check whether a client reads zero-shot-classification as a list: all but older versions of huggingface_hub."""
    found = re.search(r"hf_hub/(\d+)\.(\d+)", user_agent)
    return found is None or (int(found[1]), int(found[2])) >= FIRST_WITH_LISTS


ROUTES = (
    Route(
        paths=["/", "/models/{model}", "/models/{model}/pipeline/{task}", "/pipeline/{task}"],
        body=PipelineRequest,
        handler=answer,
        dialect=Dialect.HUGGING_FACE,
        summary="Any task, as the clients of Hugging Face ask for it.",
    ),
)
