"""A recipe → a run: the model, what it should learn, and how it is judged on the way and at the end."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from triform import __version__, families, spec
from triform.data import Files
from triform.errors import InputError, UnsupportedModelError, shown
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.model import Model
from triform.tasks import Task, find_task
from triform.training.batches import Batches, micro_batches
from triform.training.evaluation import evaluate
from triform.training.forecast import Forecast, forecast
from triform.training.loop import Training
from triform.training.lora import save_adapter, with_lora
from triform.training.metrics import Scores, require
from triform.training.objective import Objective
from triform.training.objectives import OBJECTIVES
from triform.training.processes import Processes
from triform.training.recipe import Recipe
from triform.training.start import HEADS, new_parameters, start, trainable
from triform.training.tokenizer import train_tokenizer
from triform.weights import make_folder, write_json


class EvaluationPlan(NamedTuple):
    """How models that learn an objective are judged."""

    task: str | None
    """The task whose answers are scored; None where the loss says all."""
    scores: tuple[str, ...]
    """What can be said besides the loss."""


LABEL_SCORES = ("accuracy", "macro_f1", "micro_f1", "matthews", "spearman", "pearson")
EVALUATION_PLANS: Mapping[str, EvaluationPlan] = {
    "masked-lm": EvaluationPlan(None, ("perplexity",)),
    "causal-lm": EvaluationPlan(None, ("perplexity",)),
    "seq2seq": EvaluationPlan("text2text-generation", ("bleu", "chrf")),
    "sequence-classification": EvaluationPlan("text-classification", LABEL_SCORES),
    "token-classification": EvaluationPlan("token-classification", ("f1", "precision", "recall", "accuracy")),
    "question-answering": EvaluationPlan("question-answering", ("exact_match", "f1")),
    "sentence-embedding": EvaluationPlan(None, ()),
}
"""By the names of `OBJECTIVES`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A training run, ready to begin or to go on."""

    training: Training[Any]
    model: Model
    task: str | None
    test: Files | None
    new_parameters: Sequence[str]
    """The canonical names of those that no checkpoint has brought."""
    options: Mapping[str, Any]
    """Of the task."""
    is_adapter: bool
    """Whether the output is a change of the checkpoint, and no model by itself."""

    def forecast(self) -> Forecast:
        """The memory of a step."""
        settings = self.training.settings
        return forecast(
            self.model, trainable(self.model), self.training.batches.settings.token_budget, recompute=settings.recompute
        )

    def test_scores(self) -> Scores | None:
        """How good the model is that was kept; None where nothing says it."""
        if self.test is None or self.task is None:
            return None
        output, task = self.training.output, find_task(self.task)
        if self.is_adapter:
            return evaluate(task.load(self.model.checkpoint.source, adapter=output, **self.options), self.test)
        return evaluate(task.load(output, **self.options), self.test)


def prepare(recipe: Recipe, beside: Path, processes: Processes) -> Run:
    """Load or make what a recipe names.

    Arguments:
        recipe: what to do.
        beside: the folder of the recipe, which its paths begin from.
        processes: those that train together.

    Raises:
        InputError: an unknown objective or option of one, or a bad row.
        ModelError: the model cannot be found, or not be trained so.
    """
    options = dict(recipe.objective)
    name = options.pop("name", None)
    if name not in OBJECTIVES:
        raise InputError(f"objective: name = {shown(name)}: expected one of {', '.join(OBJECTIVES)}.")
    objective_type, judged = OBJECTIVES[name], EVALUATION_PLANS[name]
    if recipe.loop.metric not in ("loss", *judged.scores):
        known = ", ".join(("loss", *judged.scores))
        raise InputError(f"loop: metric = {recipe.loop.metric!r}: {name} has {known}.")
    train = recipe.data.files(recipe.data.train, beside)
    validation, test = (
        None if paths is None else recipe.data.files(paths, beside)
        for paths in (recipe.data.validation, recipe.data.test)
    )
    require("matplotlib")  # for the end, where it would be a pity to miss it
    output = Path(recipe.output)
    source = recipe.model or str(_beginning(recipe, train, output, processes))
    model = _model(
        source, recipe, objective_type, train, labels=options.pop("labels", None), problem=options.pop("problem", None)
    )
    if recipe.lora is not None:
        model = with_lora(model, **asdict(recipe.lora), seed=recipe.loop.seed)
    tokenizer = Tokenizer.from_checkpoint(model.checkpoint)
    objective = _objective(objective_type, model, tokenizer, options)
    judge = None
    if validation is not None:
        task = None if judged.task is None else find_task(judged.task)(model, tokenizer, **recipe.evaluation)
        judge = Judge(model, objective, task, validation, recipe.batches.token_budget).scores
    weights = [] if recipe.model is None else sorted(model.checkpoint.folder.glob("*.safetensors"))
    batches = Batches(
        rows=train,
        objective=objective,
        settings=recipe.batches,
        seed=recipe.loop.seed,
        num_processes=processes.number,
    )
    training = Training(
        model=model,
        objective=objective,
        batches=batches,
        optimizer=recipe.optimizer,
        settings=recipe.loop,
        output=output,
        run=_digest(recipe, [*train.all_paths(), *weights]),
        save=model.save if recipe.lora is None else partial(save_adapter, model),
        evaluate=judge,
        processes=processes,
    )
    return Run(
        training=training,
        model=model,
        task=judged.task,
        test=test,
        new_parameters=new_parameters(model),
        options=recipe.evaluation,
        is_adapter=recipe.lora is not None,
    )


class Judge:
    """Says how good a model is on rows that it is not trained on."""

    def __init__(
        self, model: Model, objective: Objective[Any], task: Task[Any, Any] | None, rows: Files, token_budget: int
    ) -> None:
        self._model, self._objective, self._task, self._rows = model, objective, task, rows
        self._token_budget = token_budget

    def scores(self) -> Scores:
        """The objective's loss; the scores of the task's answers, or of a language model without a task perplexity."""
        loss = self._loss()
        if self._task is not None:
            return {"loss": loss, **evaluate(self._task, self._rows)}
        is_language = isinstance(self._model.spec.head, spec.LanguageHead)
        return {"loss": loss, **({"perplexity": math.exp(loss)} if is_language else {})}

    def _loss(self) -> float:
        """The mean over all targets; masks are the same each time."""
        total, targets = 0.0, 0
        rng = np.random.default_rng(0)
        with self._model.engine.inference():
            for examples in self._parts:
                loss = self._objective.loss(self._model, examples, rng)
                total, targets = total + loss.total.item(), targets + loss.targets
        return total / max(targets, 1)

    @cached_property
    def _parts(self) -> list[list[Any]]:
        examples = [example for row in self._rows for example in self._objective.examples(row)]
        return micro_batches(examples, self._objective.tokens, self._token_budget)


def _objective(objective_type: Any, model: Model, tokenizer: Tokenizer, options: Mapping[str, Any]) -> Any:
    known = [name for name in signature(objective_type).parameters if name not in ("model", "tokenizer")]
    for name in options:
        if name not in known:
            raise InputError(
                f"objective: {name!r} is not known. Known are {', '.join(['name', 'labels', 'problem', *known])}."
            )
    return objective_type(model, tokenizer, **options)


def _model(source: str, recipe: Recipe, objective_type: Any, train: Files, labels: Any, problem: Any) -> Model:
    """The checkpoint with its own head where that is of the objective's kind and has its labels, or with a new one."""
    has_labels = hasattr(objective_type, "labels") and problem != spec.Problem.REGRESSION
    if labels is None and has_labels:
        labels = objective_type.labels(train)
    own = _own_head(source) if recipe.model is not None else None
    fits = own is None if objective_type.head is None else isinstance(own, objective_type.head)
    if recipe.model is not None and fits and set(labels or ()) <= set(getattr(own, "labels", ())):
        return start(source, engine=recipe.engine, seed=recipe.loop.seed)
    head = next(name for name, kind in HEADS.items() if kind is objective_type.head)
    return start(source, head=head, labels=labels, problem=problem, engine=recipe.engine, seed=recipe.loop.seed)


def _own_head(source: str) -> spec.Head | None:
    checkpoint = find_checkpoint(source)
    try:
        return families.read_spec(checkpoint.read_object("config.json"), str(checkpoint.folder / "config.json")).head
    except UnsupportedModelError:  # a head that nobody runs can still be replaced
        return None


def _beginning(recipe: Recipe, train: Files, folder: Path, processes: Processes) -> Path:
    """Where the config.json is of a model that begins from nothing, beside the tokenizer that goes with it."""
    config = folder / "config.json"
    if processes.is_first and not config.is_file():
        make_folder(folder)
        known = {} if recipe.tokenizer is None else train_tokenizer(train, recipe.tokenizer, folder)
        write_json(config, {**known, **recipe.config})
    processes.tell(True)
    return config


def _digest(recipe: Recipe, files: Sequence[Path]) -> str:
    """Of what the numbers of a run follow from: the recipe, but not where it goes to, and the stamps of files."""
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.exists()]
    said = {**asdict(recipe), "output": None, "triform": __version__, "stamps": stamps}
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()
