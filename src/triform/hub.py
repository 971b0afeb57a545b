"""Model id or folder → Checkpoint: its files on disk. Knows nothing of what they mean."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triform import strict_json
from triform.errors import ModelNotFoundError, UnsupportedModelError
from triform.replacing import finish_interrupted

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
)
TOKENIZER = (
    *TOKENIZER_FILES,
    "merges.txt",
    "target.spm",
    "target_vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
"""All files of a tokenizer and its chat templates. One folder brings them all, as with AutoTokenizer."""
SENTENCE_MODULES = ("modules.json",)
"""The file without which sentence-transformers reads no other file of its own."""
SENTENCE_FILES = (*SENTENCE_MODULES, "config_sentence_transformers.json", "sentence_*_config.json", "[0-9]*_*/*")
"""All files of a sentence-transformers model but the transformer's."""
SETTINGS_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    *SENTENCE_FILES,
)
"""Patterns for the names of other files that change the answers of a model."""
DOWNLOADED = ["*.json", "*.txt", "*.model", "*.spm", "*.jinja"]
"""What is fetched beside the weights."""
NOT_DOWNLOADED = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "flax*", "tf_*"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The names of the files of one kind of checkpoint, whose weights lie in one file or in shards with an index."""

    config: str = "config.json"
    stem: str = "model"
    suffix: str = ".safetensors"

    @property
    def weights(self) -> str:
        """The one file."""
        return self.stem + self.suffix

    @property
    def index(self) -> str:
        """Index of the shards: tensor name → file."""
        return f"{self.weights}.index.json"

    @property
    def shards(self) -> str:
        """A pattern for the names of shards."""
        return f"{self.stem}-*-of-*{self.suffix}"

    @property
    def all_weights(self) -> tuple[str, ...]:
        """Patterns for the names of all files of weights."""
        return self.weights, self.index, self.shards


MODEL = Files()
PICKLES = Files(stem="pytorch_model", suffix=".bin")
"""What `triform convert` reads, and nothing else does."""
MODULES = "*_Dense*"
"""Folders beside that hold weights: dense modules as sentence-transformers names them, such as 2_Dense."""
TRANSFORMERS = "0_*"
"""Folders of the transformer in older models of sentence-transformers, such as 0_BERT."""
ADAPTER = Files(config="adapter_config.json", stem="adapter_model")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model, or of an adapter, in the Hugging Face layout."""

    folder: Path
    source: str
    """The id or folder that the caller named."""
    revision: str | None = None
    """The commit on the Hub; None for a local folder."""
    adapter: "Checkpoint | None" = None
    """The files of an adapter that is put on the model."""
    whole: Path | None = None
    """The folder of the sentence-transformers model of which this folder is a module; None for a whole model."""
    report: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False, repr=False)
    """File → key → use of the key, of the settings files that were read so far; for `triform describe`."""

    def has(self, name: str) -> bool:
        """Tell whether the folder holds a file of this name.

        Raises:
            ModelNotFoundError: the file may not be read.
        """
        path = self.folder / name
        try:
            if not path.is_file():
                return False
            path.open("rb").close()
        except PermissionError as error:
            raise ModelNotFoundError(explain_unreadable(path)) from error
        return True

    def having(self, patterns: tuple[str, ...]) -> "Checkpoint":
        """Return the checkpoint to take a group of files from: the adapter if it brings one of them, or else this one.

        Arguments:
            patterns: the group, `TOKENIZER` or `SENTENCE_MODULES`.
        """
        own = self.adapter
        return own if own is not None and any(any(own.folder.glob(pattern)) for pattern in patterns) else self

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file.

        Raises:
            ModelNotFoundError: the file does not exist, or may not be read.
            UnsupportedModelError: it is not JSON.
        """
        path = self.folder / name
        try:
            return strict_json.read(path)
        except FileNotFoundError as error:
            is_adapter = (self.folder / ADAPTER.config).is_file()
            raise ModelNotFoundError(
                f"{self.folder} has no {name}, so it is not a model in the Hugging Face layout. "
                "Name the folder that holds config.json and model.safetensors"
                + (", and this folder as adapter=." if is_adapter else ".")
            ) from error
        except PermissionError as error:
            raise ModelNotFoundError(explain_unreadable(path)) from error
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


def explain_unreadable(path: Path) -> str:
    """Return the message for a file without permission to read."""
    return f"{path} may not be read by this user: permission denied. Change its permissions, or run as its owner."


def find_checkpoint(model: str | Path, *, revision: str | None = None, files: Files = MODEL) -> Checkpoint:
    """Find a model's files: a local folder as it is, a Hub id in the local cache, or else on the Hub.

    What the cache holds is used without asking the network, so a model stays what it was; `revision` (a branch, tag
    or commit) picks another one, and downloading the model again with the Hub's own tool brings a newer one.
    `HF_HUB_OFFLINE`, `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT` are honoured.

    Raises:
        ModelNotFoundError: no such folder, no such id or revision, or it cannot be reached.
    """
    if not isinstance(model, str | Path):
        raise ModelNotFoundError(f"model={model!r:.300}: expected a folder or a Hub id, got {type(model).__name__}.")
    folder = _as_path(model)
    if folder.is_dir():
        if revision is not None:
            raise ModelNotFoundError(f"revision={revision!r} is for models on the Hub; {folder} is taken as it is.")
        finish_interrupted(folder)
        return Checkpoint(folder, str(model))
    if folder.is_file():
        raise ModelNotFoundError(f"{folder} is a file. Name the folder that holds {files.config} and {files.weights}.")
    if isinstance(model, Path) or str(model).startswith(("/", ".", "~")) or str(model).count("/") > 1:
        raise ModelNotFoundError(
            f"Folder {folder} does not exist. Name an existing folder, or a Hub id such as org/name."
        )
    return _find_on_hub(model, revision, files)


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


def _find_on_hub(model: str, revision: str | None, files: Files) -> Checkpoint:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def download(*, cached_only: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                model,
                revision=revision,
                allow_patterns=[
                    *(files.weights, files.shards, f"{MODULES}/{files.weights}", f"{TRANSFORMERS}/{files.weights}"),
                    *([ADAPTER.weights] if files == MODEL else []),  # the id of an adapter, or a model with an adapter
                    *DOWNLOADED,
                ],
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
    if folder is None or not (_has_weights(folder, files) and (files == ADAPTER or _has_tokenizer(folder))):
        try:
            folder = download(cached_only=False)
        except Exception as error:  # the Hub's client lets errors of several network libraries through
            raise ModelNotFoundError(_explain(model, revision, error)) from error
        if not _has_weights(folder, files):
            raise ModelNotFoundError(_explain_missing(model, revision, files))
    return Checkpoint(folder, model, revision=folder.name)


def _has_tokenizer(folder: Path) -> bool:
    return any((own / name).is_file() for name in TOKENIZER_FILES for own in (folder, *folder.glob(TRANSFORMERS)))


def _has_weights(folder: Path, files: Files) -> bool:
    """Whether config and weights are all there; another program may have fetched only some of them."""
    if files == MODEL and (folder / ADAPTER.config).is_file() and not (folder / MODEL.config).is_file():
        files = ADAPTER
    if not (folder / files.config).is_file():
        inner = next(folder.glob(f"{TRANSFORMERS}/{files.config}"), None)
        return inner is not None and _has_weights(inner.parent, files)
    if files == PICKLES and _has_weights(folder, MODEL) and any(folder.glob(f"{MODULES}/{PICKLES.weights}")):
        return True  # only modules are left to convert
    if not (folder / files.index).is_file() or (folder / files.weights).is_file():
        return (folder / files.weights).is_file()
    try:
        shards = strict_json.read(folder / files.index)["weight_map"].values()
        return all((folder / shard).is_file() for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True  # the reader of the weights reports a damaged index


def _explain_missing(model: str, revision: str | None, files: Files) -> str:
    from huggingface_hub import list_repo_files

    try:
        there = set(list_repo_files(model, revision=revision))
    except Exception:  # as above; whatever it is, the model stays incomplete
        there = set()
    if files == MODEL and there & {PICKLES.weights, PICKLES.index}:
        again = f" --revision {revision}" if revision else ""
        return (
            f"{model} has its weights only in .bin files, pickles, which can run code when they are read. "
            f"Convert them, without running any: triform convert {model}{again}"
        )
    return (
        f"{model} is not complete: of {files.config} and its {files.suffix} files, some are missing. Where the Hub "
        "could not be reached, try again online; else the model brings none, and Triform cannot read it."
    )


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
                f"{model!r} is neither a folder here nor a model on the Hub. "
                "Check the spelling; for a private model set HF_TOKEN."
            )
        case _ if constants.HF_HUB_OFFLINE:
            return (
                f"{model} is not complete in the local cache, and HF_HUB_OFFLINE forbids to fetch it. "
                "Fetch it once online, or name a local folder."
            )
    return f"{model} could not be fetched from the Hub ({type(error).__name__}: {error}). Name a local folder instead?"
