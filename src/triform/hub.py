"""Model id or folder → Checkpoint: its files on disk. Knows nothing of what they mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triform import strict_json
from triform.errors import ModelNotFoundError, UnsupportedModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
)
DOWNLOADED = [WEIGHTS, "model-*-of-*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.jinja"]
NOT_DOWNLOADED = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "flax*", "tf_*"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model in the Hugging Face layout."""

    folder: Path
    source: str
    """The id or folder that the caller named."""
    revision: str | None = None
    """The commit on the Hub; None for a local folder."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.folder / name).is_file()

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file.

        Raises:
            ModelNotFoundError: there is no such file.
            UnsupportedModelError: it is not JSON, or cannot be read.
        """
        path = self.folder / name
        try:
            return strict_json.read(path)
        except FileNotFoundError as error:
            raise ModelNotFoundError(
                f"{self.folder} has no {name}, so it is not a model in the Hugging Face layout. "
                "Name the folder that holds config.json and model.safetensors."
            ) from error
        except (ValueError, OSError) as error:
            raise UnsupportedModelError(f"{path} is not valid JSON: {error}. Fetch the file again.") from error

    def read_object(self, name: str) -> dict[str, Any]:
        """The contents of a JSON file that must hold an object.

        Raises:
            UnsupportedModelError: it holds something else.
        """
        content = self.read_json(name)
        if not isinstance(content, dict):
            raise UnsupportedModelError(f"{self.folder / name}: expected a JSON object, got {type(content).__name__}.")
        return content


def find(model: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Find a model's files: a local folder as it is, a Hub id in the local cache, or else on the Hub.

    What the cache holds is used without asking the network, so a model stays what it was; `revision` (a branch, tag
    or commit) picks another one, and downloading the model again with the Hub's own tool brings a newer one.
    `HF_HUB_OFFLINE`, `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT` are honoured.

    Raises:
        ModelNotFoundError: no such folder, no such id or revision, or it cannot be reached.
    """
    folder = _as_path(model)
    if folder.is_dir():
        if revision is not None:
            raise ModelNotFoundError(f"revision={revision!r} is for models on the Hub; {folder} is taken as it is.")
        return Checkpoint(folder, str(model))
    if folder.is_file():
        raise ModelNotFoundError(f"{folder} is a file. Name the folder that holds config.json and model.safetensors.")
    if isinstance(model, Path) or str(model).startswith(("/", ".", "~")) or str(model).count("/") > 1:
        raise ModelNotFoundError(f"There is no folder {folder}. Name an existing folder, or a Hub id such as org/name.")
    return _find_on_hub(model, revision)


def _as_path(model: str | Path) -> Path:
    try:
        if not str(model):
            raise OSError("it is empty")
        folder = Path(model).expanduser()
        folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelNotFoundError(
            f"{str(model)!r} is neither a folder nor a Hub id such as org/name: {error}."
        ) from error
    return folder


def _find_on_hub(model: str, revision: str | None) -> Checkpoint:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def download(*, cached_only: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                model,
                revision=revision,
                allow_patterns=DOWNLOADED,
                ignore_patterns=NOT_DOWNLOADED,
                local_files_only=cached_only,
            )
        )

    folder: Path | None = None
    try:
        folder = download(cached_only=True)
    except LocalEntryNotFoundError as error:
        # Some of the files that would be fetched may be there, and all that are needed among them.
        found = getattr(error, "snapshot_path", None)
        folder = None if found is None else Path(found)
    except HFValidationError as error:
        raise ModelNotFoundError(f"{model!r} is neither a folder nor a Hub id such as org/name: {error}") from error
    if folder is None or not (_has_weights(folder) and _has_tokenizer(folder)):
        try:
            folder = download(cached_only=False)
        except Exception as error:  # the Hub's client lets errors of several network libraries through
            raise ModelNotFoundError(_explain(model, revision, error)) from error
        if not _has_weights(folder):
            raise ModelNotFoundError(
                f"{model} is not complete: of config.json and its safetensors files, some are missing. Where the Hub "
                "could not be reached, try again online; else the model brings none, and Triform cannot read it."
            )
    return Checkpoint(folder, model, revision=folder.name)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _has_weights(folder: Path) -> bool:
    """Whether config and weights are all there; another program may have fetched only some of them."""
    if not (folder / "config.json").is_file():
        return False
    if not (folder / INDEX).is_file():
        return (folder / WEIGHTS).is_file()
    try:
        shards = strict_json.read(folder / INDEX)["weight_map"].values()
        return all((folder / shard).is_file() for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True  # whoever reads the weights says what is wrong with the index


def _explain(model: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    match error:
        case GatedRepoError():
            return f"{model} is gated. Accept its terms on the Hub and set HF_TOKEN to a token of that account."
        case RevisionNotFoundError():
            return f"{model} has no revision {revision!r}. Name a branch, tag or commit that exists."
        case RepositoryNotFoundError():
            return (
                f"There is no folder {model!r} here, and no model of that id on the Hub. "
                "Check the spelling; for a private model set HF_TOKEN."
            )
        case _ if constants.HF_HUB_OFFLINE:
            return (
                f"{model} is not complete in the local cache, and HF_HUB_OFFLINE forbids to fetch it. "
                "Fetch it once online, or name a local folder."
            )
    return f"{model} could not be fetched from the Hub ({type(error).__name__}: {error}). Name a local folder instead?"
