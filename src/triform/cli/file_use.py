"""Files of a model's folder: what Triform reads from each, and which files are left."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from triform.errors import ModelError
from triform.generation import GenerationConfig
from triform.hub import SENTENCE_FILES, SENTENCE_MODULES, TOKENIZER, TOKENIZER_FILES, Checkpoint
from triform.inputs import Tokenizer
from triform.model import Blueprint
from triform.settings import KeyUse
from triform.tasks.sequence_level.sentence_transformers import Recipe

VOCABULARIES = ({*TOKENIZER_FILES} - {"tokenizer.json"}) | {"merges.txt", "target.spm", "target_vocab.json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileUse:
    """The use of one file."""

    file: str
    """The full path for a file of an adapter, or else the path in the model's folder."""
    use: str
    """The purpose of the file; "left" for a file that Triform does not read."""
    keys: dict[str, list[str]]
    """Use of keys → keys, of a settings file."""


def list_files(blueprint: Blueprint) -> Iterator[FileUse]:
    """Yield the files of a model and of its adapter. Reads the settings files that tasks would read."""
    model = blueprint.checkpoint
    _read_settings(model)
    tensors = [blueprint.tensors[source.tensor].file for source in blueprint.assignment.sources.values()]
    weights = {(model.folder / file).resolve() for file in tensors}
    adapter = model.adapter
    for checkpoint in [model] if adapter is None or adapter.folder == model.folder else [model, adapter]:
        for path in sorted(checkpoint.folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                name = path.relative_to(checkpoint.folder).as_posix()
                yield FileUse(
                    file=name if checkpoint is model else str(path),
                    use=_use(model, checkpoint, name, is_weights=path.resolve() in weights),
                    keys=_keys(checkpoint, name),
                )


def _read_settings(checkpoint: Checkpoint) -> None:
    """Read settings, so that the checkpoint's report has their keys. What cannot be read, the task will say."""
    readers: tuple[Callable[[Checkpoint], object], ...] = (
        Tokenizer.from_checkpoint,
        GenerationConfig.from_checkpoint,
        Recipe.read,
    )
    for read in readers:
        try:
            read(checkpoint)
        except ModelError:
            continue


def _use(model: Checkpoint, checkpoint: Checkpoint, name: str, *, is_weights: bool) -> str:
    if is_weights or name.endswith(".index.json"):
        return "weights" if is_weights else "left"
    if name in VOCABULARIES and checkpoint.has("tokenizer.json"):
        return "left"  # tokenizer.json has the vocabulary
    for gate, group, use in (
        (TOKENIZER, TOKENIZER, "tokenizer"),
        (SENTENCE_MODULES, SENTENCE_FILES, "sentence encoder"),
    ):
        if any(Path(name).match(pattern) for pattern in group) and model.having(gate).folder == checkpoint.folder:
            return use
    is_config = checkpoint is model and name in ("config.json", "generation_config.json")
    return "settings" if is_config or name in checkpoint.report else "left"


def _keys(checkpoint: Checkpoint, name: str) -> dict[str, list[str]]:
    report = checkpoint.report.get(name, {})
    return {use.value: [key for key, own in report.items() if own is use] for use in KeyUse if use in report.values()}
