"""Run: a recipe made ready: model, objective, batches, and evaluation on the way and at the end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from triform import families, spec
from triform.data import Files
from triform.errors import InputError, UnsupportedModelError
from triform.hub import TOKENIZER_FILES, find_checkpoint
from triform.inputs import Tokenizer
from triform.model import Model, NewHead, load_for_training
from triform.model.trainable import trainable_parameters
from triform.replacing import make_folder, write_json
from triform.tasks import find_task
from triform.training.batches import Batches
from triform.training.evaluation import evaluate
from triform.training.evaluator import Evaluator
from triform.training.forecast import Forecast, forecast_memory
from triform.training.loop import Training
from triform.training.lora import save_adapter, with_lora
from triform.training.metrics import Scores, require
from triform.training.objective import Objective
from triform.training.objectives import find_objective
from triform.training.processes import Processes
from triform.training.recipe import Recipe
from triform.training.settings import read_settings
from triform.training.tokenizer import train_tokenizer
from triform.version import __version__
from triform.weights import check_output


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A training run, ready to begin or to be resumed."""

    training: Training[Any]
    model: Model
    task: str | None
    """Task whose answers to the test rows are scored."""
    task_options: Mapping[str, Any]
    test: Files | None
    is_adapter: bool
    """Whether the output is a LoRA adapter, and not a whole model."""

    def forecast_memory(self) -> Forecast:
        """Estimate the memory of a step."""
        settings, token_budget = self.training.settings, self.training.batches.settings.token_budget
        trained = trainable_parameters(self.model)
        return forecast_memory(self.model, trained, token_budget, recompute=settings.recompute)

    def test_scores(self) -> Scores | None:
        """Score the saved model on the test rows; None without test rows or without a task."""
        if self.test is None or self.task is None:
            return None
        output, task = self.training.output, find_task(self.task)
        if self.is_adapter:
            source = self.model.checkpoint.source
            return evaluate(task.load(source, adapter=output, **self.task_options), self.test)
        return evaluate(task.load(output, **self.task_options), self.test)


def prepare_run(recipe: Recipe, base_dir: Path, processes: Processes) -> Run:
    """Load or make everything for a recipe.

    Arguments:
        recipe: the recipe.
        base_dir: folder that relative paths of data begin at.
        processes: processes that train together.

    Raises:
        InputError: an unknown objective, a wrong setting, or a bad row.
        ModelError: the model cannot be found, or has no head for the objective.
    """
    own = dict(recipe.objective)
    kind = find_objective(own.pop("name", None))
    settings = read_settings(kind.settings_type, own, "objective")
    if recipe.loop.metric not in kind.score_names():
        known = ", ".join(kind.score_names())
        raise InputError(f"loop: metric = {recipe.loop.metric!r}: {kind.name} has {known}.")
    train = recipe.data.files(recipe.data.train, base_dir)
    validation, test = (
        None if paths is None else recipe.data.files(paths, base_dir)
        for paths in (recipe.data.validation, recipe.data.test)
    )
    require("matplotlib")  # needed at the end, but its absence must not end a long run
    output = Path(recipe.output)
    source = recipe.model or str(_write_config(recipe, train, output, processes))
    model = _load_model(source, recipe, kind.new_head(settings, train))
    if recipe.lora is None:
        check_output(model.checkpoint.folder, output)
    if recipe.lora is not None:
        model = with_lora(model, **asdict(recipe.lora), seed=recipe.loop.seed)
    task_type = None if kind.task is None else find_task(kind.task)
    tokenizer = Tokenizer.from_checkpoint(model.checkpoint) if task_type is None else task_type.read_processor(model)
    objective = kind(model, tokenizer, settings)
    evaluator = None
    if validation is not None:
        task = None if task_type is None else task_type(model, tokenizer, **recipe.evaluation)
        evaluator = Evaluator(model, objective, task, validation, recipe.batches.token_budget)
    if processes.is_first:
        _check_rows(objective, evaluator, test)
    data = [*train.all_paths(), *([] if validation is None else validation.all_paths())]
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
        run=_digest(recipe, data, model.checkpoint.folder),
        save=model.save if recipe.lora is None else partial(save_adapter, model),
        evaluate=evaluator,
        processes=processes,
    )
    return Run(
        training=training,
        model=model,
        task=kind.task,
        task_options=recipe.evaluation,
        test=test,
        is_adapter=recipe.lora is not None,
    )


def _write_config(recipe: Recipe, train: Files, folder: Path, processes: Processes) -> Path:
    """Write config.json and tokenizer of a new model, in the first process, and return the path of config.json."""
    config = folder / "config.json"
    if processes.is_first and not config.is_file():
        make_folder(folder)
        known = {} if recipe.tokenizer is None else train_tokenizer(train, recipe.tokenizer, folder)
        write_json(config, {**known, **recipe.config})
    processes.broadcast(True)
    return config


def _load_model(source: str, recipe: Recipe, new_head: NewHead) -> Model:
    """Load a checkpoint: with the checkpoint's own head if the kind and the labels fit, else with the new head."""
    keeps_head = recipe.model is not None and _has_head(source, new_head)
    head = None if keeps_head else new_head
    return load_for_training(source, new_head=head, engine=recipe.engine, seed=recipe.loop.seed)


def _has_head(source: str, wanted: NewHead) -> bool:
    """Check whether a checkpoint's own head has the kind and the labels of another head."""
    checkpoint = find_checkpoint(source)
    try:
        own = families.read_spec(checkpoint.read_object("config.json"), str(checkpoint.folder / "config.json")).head
    except UnsupportedModelError:  # an unsupported head can still be replaced
        return False
    labels = own.labels if isinstance(own, spec.SequenceHead | spec.TokenHead) else ()
    fits = own is None if wanted.kind is None else isinstance(own, wanted.kind)
    return fits and set(wanted.labels or ()) <= set(labels)


def _check_rows(objective: Objective[Any], evaluator: Evaluator | None, test: Files | None) -> None:
    """Check all rows that are read after the first step, so that a bad one does not end a long run.

    Raises:
        InputError: a row without an example, a label that the model does not have, or no validation rows.
    """
    if evaluator is not None:
        evaluator.check()
    for row in test or ():
        objective.check_answer(row)


SETTINGS_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "[0-9]*_*/*.json")
"""Files of a checkpoint beside the weights that results follow from: config, tokenizer, modules."""
WEIGHTS_FILES = ("*.safetensors", "[0-9]*_*/*.safetensors")


def _digest(recipe: Recipe, data: Sequence[Path], folder: Path) -> str:
    """Digest everything that determines the results: the recipe without the output, data and the files of the model.

    Arguments:
        recipe: the recipe.
        data: files of rows, of which size and time are taken.
        folder: the folder of the model. The run itself writes the folder of a new model, all but its tokenizer.
    """
    is_new = recipe.model is None
    large = [] if is_new else _found(folder, WEIGHTS_FILES)
    small = _found(folder, TOKENIZER_FILES if is_new else SETTINGS_FILES)
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (*data, *large) if path.exists()]
    contents = [(path.name, hashlib.blake2b(path.read_bytes()).hexdigest()) for path in small]
    content = {**asdict(recipe), "output": None, "triform": __version__, "stamps": stamps, "contents": contents}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _found(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """List the files of a folder that match one of some patterns, in one order."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
