"""The models that the server offers, each with the tasks that it can do."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from triform.demo import DEMOS
from triform.errors import InputError, ModelError, WrongTaskError
from triform.hub import Checkpoint
from triform.model import Model, load
from triform.model.files import find_files
from triform.serving.errors import ApiError
from triform.tasks import TASKS, Task, find_task
from triform.tasks.generative.text_generation import TextGeneration
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding
from triform.tasks.sequence_level.sentence_settings import MODEL, MODULES
from triform.tasks.sequence_level.sentence_similarity import SentenceSimilarity
from triform.tasks.sequence_level.text_ranking import MODEL_TYPE
from triform.tasks.token_level.feature_extraction import FeatureExtraction
from triform.version import __version__

ANY_MODEL = ("", "dummy", "tgi", "default")
"""Names that clients send where they mean the only model."""

ORDER = (
    *("text-ranking", "zero-shot-classification", "text-classification", "token-classification", "question-answering"),
    *("fill-mask", "text-generation", "text2text-generation", "summarization", "translation"),
    *("sentence-embedding", "sentence-similarity", "feature-extraction"),
)
"""Tasks in the order in which a model's main task is found: the narrower task first."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A loaded model under a name."""

    name: str
    source: str
    """The folder or the Hub id."""
    tasks: Mapping[str, Task[Any, Any]]
    """The tasks that the model can do, the main task first."""
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def main_task(self) -> Task[Any, Any]:
        """The task of a request that names none."""
        return next(iter(self.tasks.values()))

    @property
    def model(self) -> Model:
        """The model of all tasks."""
        return self.main_task.model

    @cached_property
    def fingerprint(self) -> str:
        """A name of the version and the weights: with equal fingerprint and seed, answers have equal bits."""
        checkpoint = self.model.checkpoint
        seen = f"{__version__} {checkpoint.source} {checkpoint.revision} {self.model.num_parameters}"
        formats = sorted({str(parameter.format) for parameter in self.model.parameters.values()})
        return "fp_" + hashlib.blake2b(f"{seen} {formats}".encode(), digest_size=6).hexdigest()

    def task(self, name: str) -> Task[Any, Any]:
        """Return a task by its name.

        Raises:
            ApiError: the model has no such task.
        """
        if name not in self.tasks:
            raise ApiError(
                400,
                f"Model {self.name} cannot do {name}: it can do {', '.join(self.tasks)}.",
                code="wrong_task",
                param="model",
            )
        return self.tasks[name]


class Registry:
    """All models of the server, by name."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models = {model.name: model for model in models}

    def find(self, name: str | None, *tasks: str) -> ServedModel:
        """Find the model that a request means.

        Arguments:
            name: as the client wrote it; None or one of `ANY_MODEL` for the only model that can do the task.
            tasks: tasks of which the model must be able to do one; none for any model.

        Raises:
            ApiError: an unknown name, or no name where several models can do the task.
        """
        if name is not None and name in self.models:
            model = self.models[name]
            if tasks and not any(task in model.tasks for task in tasks):
                model.task(tasks[0])
            return model
        if name is None or name in ANY_MODEL:
            able = [model for model in self.models.values() if not tasks or any(task in model.tasks for task in tasks)]
            if len(able) == 1:
                return able[0]
            wanted = f" for {' or '.join(tasks)}" if tasks else ""
            names = ", ".join(model.name for model in able)
            if able:
                raise ApiError(404, f"Name a model{wanted}: one of {names}.", code="model_not_found", param="model")
            raise ApiError(
                400,
                f"No model here can do {' or '.join(tasks)}. Served: {self._list()}.",
                code="wrong_task",
                param="model",
            )
        raise ApiError(
            404, f"Model {name!r} is not served here. Served: {self._list()}.", code="model_not_found", param="model"
        )

    def _list(self) -> str:
        return "; ".join(f"{model.name} ({', '.join(model.tasks)})" for model in self.models.values())


def load_served(
    source: str, *, name: str | None = None, task: str | None = None, engine: str = "auto", dtype: str = "auto"
) -> ServedModel:
    """Load a model with all tasks that it can do.

    Arguments:
        source: a folder, a Hub id, or the name of a model that ships.
        name: the name to serve it under; by default the Hub id, or the last part of the folder.
        task: the main task; by default the narrowest.
        engine: as in `triform.load`.
        dtype: as in `triform.load`.

    Raises:
        ModelError: the model cannot be found or loaded, or can do no task.
    """
    demo = DEMOS.get(source) if not Path(source).exists() else None
    folder = source if demo is None else demo.folder
    files = find_files(folder, None, None)
    tasks = _load_tasks(files, engine=engine, dtype=dtype)
    main = task or (demo.task if demo else None)
    if main is not None:
        main = find_task(main).name
        if main not in tasks:
            raise WrongTaskError(f"{source} cannot do {main}: it can do {', '.join(tasks) or 'no task'}.")
        tasks = {main: tasks[main], **tasks}
    if not tasks:
        raise WrongTaskError(f"{source} can do no task: choose a model with a head, or an encoder of texts.")
    own_name = Path(source).name if Path(source).expanduser().is_dir() else source
    return ServedModel(name=name or own_name, source=str(folder), tasks=tasks)


def load_all(sources: Sequence[str], **arguments: Any) -> Registry:
    """Load models; a source may be `NAME=MODEL`. Without sources load the models that ship.

    Raises:
        InputError: two models of one name.
        ModelError: a model cannot be loaded.
    """
    models: dict[str, ServedModel] = {}
    for source in sources or tuple(DEMOS):
        name, separator, path = source.partition("=")
        served = load_served(path, name=name, **arguments) if separator else load_served(source, **arguments)
        if served.name in models:
            raise InputError(f"Two models have the name {served.name}. Name one of them, such as other={source}.")
        models[served.name] = served
    return Registry(list(models.values()))


def _load_tasks(files: Checkpoint, *, engine: str, dtype: str) -> dict[str, Task[Any, Any]]:
    is_cross_encoder = files.has(MODEL) and files.read_object(MODEL).get("model_type") == MODEL_TYPE
    if files.has(MODULES) and not is_cross_encoder:
        embedding = SentenceEmbedding.load_files(files, engine=engine, dtype=dtype)
        similarity = SentenceSimilarity(embedding.model, embedding.tokenizer, recipe=embedding.recipe)
        features = FeatureExtraction(embedding.model, embedding.tokenizer)
        return {task.name: task for task in (embedding, similarity, features)}
    model = load(files, engine=engine, dtype=dtype)
    assert set(ORDER) == set(TASKS)
    tasks: dict[str, Task[Any, Any]] = {}
    for name in ORDER:
        kind = find_task(name)
        if (kind.head is None) != (model.spec.head is None):
            continue
        try:
            task = kind(model, kind.read_processor(model))
        except WrongTaskError:
            continue
        tasks[name] = task
    return tasks


def has_chat_template(task: TextGeneration) -> bool:
    """Check whether a model can answer a conversation."""
    try:
        return task.chat_template is not None
    except ModelError:
        return False
