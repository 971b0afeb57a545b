"""The routes of text-embeddings-inference, except rerank and tokenize. https://huggingface.github.io/text-embeddings-inference.

Three things differ. A long text is refused where the caller does not say `truncate`, unless the server's
`auto_truncate` is set. Ids are used as they are. A classifier of several labels has the scores it was trained for.
"""

from typing import Any

import msgspec

from triform import spec
from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError, Dialect
from triform.serving.models import ServedModel
from triform.serving.texts import (
    Inputs,
    check_ids,
    encoder,
    naming,
    prompt_of,
    read_inputs,
    side_of,
    text_task,
)
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding
from triform.tasks.sequence_level.text_classification import Function
from triform.version import __version__

EMBEDDING, FEATURES, SIMILARITY = "sentence-embedding", "feature-extraction", "sentence-similarity"
CLASSIFICATION, RANKING = "text-classification", "text-ranking"


class EmbedAllRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /embed_all and /embed_sparse."""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: str | None = None
    prompt_name: str | None = None
    model: str | None = None


class EmbedRequest(EmbedAllRequest, forbid_unknown_fields=True):
    """The body of /embed."""

    normalize: bool | None = None
    dimensions: int | None = None


async def embed(call: Call, body: EmbedRequest) -> list[Any]:
    """Answer with a vector for each input."""
    served = call.find(body.model, EMBEDDING)
    inputs = _inputs(call, served, body.inputs, body.prompt_name)
    task = text_task(served.task(EMBEDDING))
    side = side_of(body.truncation_direction)
    options: dict[str, Any] = {
        "normalize": True if body.normalize is None else body.normalize,
        "truncate_dim": body.dimensions,
        "truncation_side": side,
        **call.long_input(body.truncate),
    }
    with naming("truncate_dim", "dimensions"):
        if isinstance(inputs[0], str):
            return await call.answers(served, task, inputs, prompt_name=body.prompt_name, **options)
        encode = encoder(task, "", cuts=call.cuts(body.truncate), side=side)
        return await call.answers(served, task, inputs, encode=encode, prompt="", **options)


async def embed_all(call: Call, body: EmbedAllRequest) -> list[Any]:
    """Answer with a vector for each token of each input."""
    served = call.find(body.model, FEATURES)
    inputs = _inputs(call, served, body.inputs, body.prompt_name)
    task = text_task(served.task(FEATURES))
    prompt = prompt_of(served, body.prompt_name)
    side = side_of(body.truncation_direction)
    encode = encoder(task, prompt, cuts=call.cuts(body.truncate), side=side)
    return await call.answers(served, task, inputs, encode=encode)


async def embed_sparse(call: Call, body: EmbedAllRequest) -> None:
    """Refuse: no model here makes sparse vectors."""
    served = call.find(body.model)
    raise ApiError(
        400,
        f"Model {served.name} makes no sparse vectors, and no model here does. Send the request to /embed.",
        code="wrong_task",
    )


def _inputs(call: Call, served: ServedModel, given: Inputs, prompt_name: str | None) -> list[str] | list[list[int]]:
    inputs = read_inputs(given)
    call.check_count(len(inputs), "inputs")
    for number, ids in enumerate(inputs):
        if isinstance(ids, list):
            if prompt_name is not None:
                raise ApiError(400, "prompt_name: a prompt is for texts; inputs are ids.", param="prompt_name")
            check_ids(served, ids, "inputs" if len(inputs) == 1 else f"inputs[{number}]")
    return inputs


class SimilarityInputs(msgspec.Struct, forbid_unknown_fields=True):
    """A sentence, and the sentences to compare with it."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How the sentences are read."""

    truncate: bool | None = None
    truncation_direction: str | None = None
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /similarity."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: str | None = None


async def similarity(call: Call, body: SimilarityRequest) -> list[float]:
    """Answer with the similarity of each sentence to the source."""
    served = call.find(body.model, SIMILARITY)
    call.check_count(len(body.inputs.sentences), "inputs.sentences")
    how = body.parameters or SimilarityParameters()
    [answer] = await call.answers(
        served,
        served.task(SIMILARITY),
        [{"source_sentence": body.inputs.source_sentence, "sentences": body.inputs.sentences}],
        prompt_name=how.prompt_name,
        truncation_side=side_of(how.truncation_direction, "parameters.truncation_direction"),
        **call.long_input(how.truncate),
    )
    return list(answer)


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of /predict."""

    inputs: str | list[str | list[str]]
    """A text; two texts, which are one pair; or a list of lists of one or two texts."""
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None
    model: str | None = None


async def predict(call: Call, body: PredictRequest) -> list[Any]:
    """Answer with the labels of each input, the best first."""
    served = call.find(body.model, CLASSIFICATION)
    texts, is_batch = _read_pairs(body.inputs)
    call.check_count(len(texts), "inputs")
    head = served.model.spec.head
    assert isinstance(head, spec.SequenceHead)
    function = Function.SIGMOID if len(head.labels) == 1 else Function.DEFAULT
    answers = await call.answers(
        served,
        served.task(CLASSIFICATION),
        texts,
        top_k=len(head.labels),
        function_to_apply=Function.NONE if body.raw_scores else function,
        truncation_side=side_of(body.truncation_direction),
        **call.long_input(body.truncate),
    )
    rows = [[{"score": each["score"], "label": each["label"]} for each in answer] for answer in answers]
    return rows if is_batch else rows[0]


def _read_pairs(given: str | list[str | list[str]]) -> tuple[list[Any], bool]:
    """Read texts and pairs → the inputs of text-classification, and whether they are a batch."""
    if isinstance(given, str):
        return [given], False
    texts = [each for each in given if isinstance(each, str)]
    if texts:
        if len(given) == len(texts) == 2:
            return [{"text": texts[0], "text_pair": texts[1]}], False
        raise ApiError(
            400,
            f'inputs: expected a text, a pair ["a", "b"], or a batch [["a"], ["b", "c"]], got {len(given)} items '
            f"of which {len(texts)} are texts.",
            param="inputs",
        )
    inputs: list[Any] = []
    for number, each in enumerate(given):
        if len(each) not in (1, 2):
            at = f"inputs[{number}]"
            raise ApiError(400, f"{at}: expected one or two texts, got {len(each)}.", param=at)
        inputs.append(each[0] if len(each) == 1 else {"text": each[0], "text_pair": each[1]})
    return inputs, True


async def info(call: Call, body: None) -> dict[str, Any]:
    """Answer with a description of a model: of the path, or the first one served."""
    name = call.path.get("model")
    served = call.find(name) if name else next(iter(call.state.registry.models.values()))
    call.model_name = served.name
    settings, checkpoint = call.settings, served.model.checkpoint
    tokens = sorted({str(parameter.format) for parameter in served.model.parameters.values()})
    return {
        "model_id": served.name,
        "model_sha": checkpoint.revision,
        "model_dtype": ", ".join(tokens),
        "served_model_name": served.name,
        "model_type": _model_type(served),
        "max_concurrent_requests": settings.max_requests,
        "max_input_length": text_task(served.main_task).limit(),
        "max_batch_tokens": settings.max_queued_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_inputs,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": None,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "pipeline_tag": served.main_task.name,
        "tasks": list(served.tasks),
        "models": list(call.state.registry.models),
    }


def _model_type(served: ServedModel) -> dict[str, Any]:
    """Describe what a model does; text-embeddings-inference knows three kinds, and the others have none."""
    head, embedding = served.model.spec.head, served.tasks.get(EMBEDDING)
    if isinstance(embedding, SentenceEmbedding):
        return {"embedding": {"pooling": "+".join(embedding.recipe.poolings)}}
    if isinstance(head, spec.SequenceHead):
        labels = {str(number): label for number, label in enumerate(head.labels)}
        kind = "reranker" if RANKING in served.tasks else "classifier"
        return {kind: {"id2label": labels, "label2id": {label: int(id) for id, label in labels.items()}}}
    return {}


def _route(path: str, body: Any, handler: Any, summary: str) -> Route:
    return Route(paths=[path], body=body, handler=handler, dialect=Dialect.EMBEDDINGS, summary=summary)


ROUTES = (
    _route("/embed", EmbedRequest, embed, "A vector for each text."),
    _route("/embed_all", EmbedAllRequest, embed_all, "A vector for each token of each text."),
    _route("/embed_sparse", EmbedAllRequest, embed_sparse, "Refused: no model here makes sparse vectors."),
    _route("/similarity", SimilarityRequest, similarity, "The similarity of sentences to a source."),
    _route("/predict", PredictRequest, predict, "The labels of texts or pairs of texts."),
    Route(
        paths=["/info", "/models/{model}/info"],
        method="GET",
        handler=info,
        dialect=Dialect.EMBEDDINGS,
        summary="What a model is, and the limits of requests.",
    ),
)
