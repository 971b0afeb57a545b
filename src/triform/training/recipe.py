"""A recipe: all that a training run is told, read from TOML. A key that nobody knows is an error that names it."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triform.data import FileFormat, Files
from triform.errors import InputError
from triform.training.batches import BatchSettings
from triform.training.loop import LoopSettings
from triform.training.optimizer import OptimizerSettings
from triform.training.settings import read_settings
from triform.training.tokenizer import TokenizerSettings

Paths = str | Sequence[str] | Mapping[str, str]
"""A file; files one after another; or by the names of fields files side by side, of which each line is one value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """Where the rows are. All files are of one kind, and read as `Files` says."""

    train: Paths
    validation: Paths | None = None
    """What the best model is chosen by."""
    test: Paths | None = None
    """What the chosen model is scored on at the end."""
    folder: str = "."
    """Where the files are; one that is no whole path is looked for beside the recipe."""
    format: FileFormat | None = None
    pattern: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"

    def files(self, paths: Paths, beside: Path) -> Files:
        """Some of the files; those of `train`, say."""
        folder = beside / self.folder
        if isinstance(paths, Mapping):
            found: Any = {name: folder / path for name, path in paths.items()}
        else:
            found = [folder / path for path in ([paths] if isinstance(paths, str) else paths)]
        return Files(
            paths=found,
            format=self.format,
            pattern=self.pattern,
            columns=self.columns,
            labels=self.labels,
            encoding=self.encoding,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """A small change beside some linears, in the place of all parameters; see `with_lora`."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("*.attention.query", "*.attention.value")
    """Canonical names of linears, with * for anything."""
    trained: Sequence[str] = ()
    """Canonical names of parameters to be trained whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A training run."""

    objective: Mapping[str, Any]
    """Its `name`, and what else that objective can be told."""
    data: DataSettings
    output: str
    """The folder for the model."""
    model: str | None = None
    """A folder or a Hub id of a checkpoint to begin with."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Without a checkpoint: the config.json of the model to begin from nothing."""
    tokenizer: TokenizerSettings | None = None
    """Without a checkpoint: the tokenizer to train from the training files."""
    lora: LoraSettings | None = None
    """With it, the output is an adapter in PEFT's layout."""
    engine: str = "torch"
    """torch, or torch:DEVICE."""
    batches: BatchSettings = field(default_factory=BatchSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task whose answers are scored, such as max_new_tokens."""

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.config):
            raise InputError("expected one of model, to begin with a checkpoint, and config, to begin from nothing.")
        if self.model is not None and self.tokenizer is not None:
            raise InputError("a checkpoint brings its tokenizer. Leave tokenizer out, or begin from nothing.")
        if self.model is None and self.lora is not None:
            raise InputError("lora is a change of a checkpoint. Name one as model, or leave lora out.")


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Arguments:
        path: of a .toml file.
        changes: values in place of its own, as `optimizer.learning_rate=3e-5`; a text may go without its quotes.

    Raises:
        InputError: it cannot be read, or a key or a value is not what was expected; it is named.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    for change in changes:
        _set(table, change)
    return read_settings(Recipe, table, str(path))


def _set(table: dict[str, Any], change: str) -> None:
    name, parted, text = change.partition("=")
    if not parted:
        raise InputError(f"--set {change}: expected KEY=VALUE, such as optimizer.learning_rate=3e-5.")
    *sections, key = name.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {change}: {section} is no table.")
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = text.strip()
