"""Recipe: the description of a training run, for TOML files and for `triform.train`. Unknown keys are errors."""

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
from triform.training.settings import merge_tables, read_settings
from triform.training.tokenizer import TokenizerSettings

Paths = str | Sequence[str] | Mapping[str, str]
"""A file; a list of files, one after another; or field → file, side by side: each line is a value of the field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """Files of rows. All are of one format, and read as `Files` says."""

    train: Paths
    validation: Paths | None = None
    """Rows that the best model is chosen by."""
    test: Paths | None = None
    """Rows that the best model is scored on at the end."""
    folder: str = "."
    """Folder of the files; a relative path is relative to the folder of the recipe."""
    format: FileFormat | None = None
    pattern: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"

    def files(self, paths: Paths, base_dir: Path) -> Files:
        """Describe some of the files, such as the files of `train`; relative paths begin at `base_dir`."""
        folder = base_dir / self.folder
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
    """Low-rank adaptation of some linears, in place of training all parameters; see `with_lora`."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: Sequence[str] = ("*.attention.query", "*.attention.value")
    """Patterns of the canonical names of linears, with * for anything."""
    trained: Sequence[str] = ()
    """Patterns of the canonical names of parameters that are trained whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A training run."""

    objective: Mapping[str, Any]
    """`name` of the objective, and its settings."""
    data: DataSettings
    output: str
    """Folder for the model."""
    model: str | None = None
    """Folder or Hub id of the checkpoint to begin with."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Without a checkpoint: contents of the new model's config.json."""
    tokenizer: TokenizerSettings | None = None
    """Without a checkpoint: settings of a tokenizer that is trained from the training files."""
    lora: LoraSettings | None = None
    """Settings of LoRA; with them the output is an adapter in PEFT's layout."""
    engine: str = "torch"
    """Engine: torch, or torch:DEVICE."""
    batches: BatchSettings = field(default_factory=BatchSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task whose answers are scored, such as max_new_tokens."""

    def __post_init__(self) -> None:
        if (self.model is None) == (not self.config):
            raise InputError("expected one of model, to begin with a checkpoint, and config, for a new model.")
        if self.model is not None and self.tokenizer is not None:
            raise InputError(
                "a checkpoint brings its tokenizer. Leave tokenizer out, or give config in place of model."
            )
        if self.model is None and self.lora is not None:
            raise InputError("lora changes a checkpoint. Name a checkpoint as model, or leave lora out.")


def read_recipe(path: str | Path | None = None, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a file, from values, or from both.

    Arguments:
        path: a .toml file; None for a recipe of values alone.
        changes: values in the form of the file's table. They are laid over those of the file, tables key by key; None
            leaves a value as it is.

    Raises:
        InputError: the file cannot be read, or a key or a value is wrong; it is named.
    """
    table = {} if path is None else _read_toml(Path(path))
    return read_settings(Recipe, merge_tables(table, changes or {}), "recipe" if path is None else str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
