"""The table of tokenizer classes, for checkpoints without tokenizer.json.

The files alone do not determine the tokenizer. Of two checkpoints with the same vocab.json and merges.txt, one may put
<s> and </s> around a text: a wrong choice gives the right ids and wrong answers. The class decides. Its name is
`tokenizer_class` in tokenizer_config.json, or else in config.json. Where neither names a class, `model_type` decides,
since the classes are named after the first model that used them: a model type is compared with the class's name without
"Tokenizer". A class that is not in the table is refused, because a guess would be silent.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from triform.errors import TokenizerError
from triform.hub import TOKENIZER_FILES, Checkpoint
from triform.inputs.text.backend import Backend


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerClass:
    """A row of the table: the classes that are built alike."""

    names: tuple[str, ...]
    """The names in `transformers`, without a final "Fast"."""
    files: tuple[str, ...]
    """The files that the checkpoint must have."""
    builder: str
    """Module and function, imported only for a checkpoint that needs it."""
    roles: dict[str, str]
    """The special tokens where tokenizer_config.json and special_tokens_map.json do not name them."""

    def build(self, checkpoint: Checkpoint, settings: dict[str, Any]) -> Backend:
        """Build the tokenizer of a checkpoint; the settings name the special tokens."""
        module, _, function = self.builder.partition(":")
        backend: Backend = getattr(import_module(f"triform.inputs.text.{module}"), function)(checkpoint, settings)
        return backend


BRACKETS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
ANGLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
WRAPPED = {**ANGLES, "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>", "mask_token": "<mask>"}
END_OF_TEXT = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")

TABLE = (
    TokenizerClass(
        names=(
            "BertTokenizer",
            "DistilBertTokenizer",
            "ElectraTokenizer",
            "MobileBertTokenizer",
            "SqueezeBertTokenizer",
        ),
        files=("vocab.txt",),
        builder="word_piece:build",
        roles=BRACKETS,
    ),
    TokenizerClass(
        names=("MPNetTokenizer",),
        files=("vocab.txt",),
        builder="word_piece:build_wrapped",
        roles={**WRAPPED, "unk_token": "[UNK]"},
    ),
    TokenizerClass(
        names=("GPT2Tokenizer",),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_bare",
        roles=END_OF_TEXT,
    ),
    TokenizerClass(
        names=("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer"),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_wrapped",
        roles=WRAPPED,
    ),
    TokenizerClass(
        names=("Qwen2Tokenizer",),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_digits_apart",
        roles={"unk_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    ),
    TokenizerClass(
        names=("T5Tokenizer", "MT5Tokenizer"),
        files=("spiece.model",),
        builder="sentence_piece_models:build_with_extra_ids",
        roles={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    ),
    TokenizerClass(
        names=("LlamaTokenizer",),
        files=("tokenizer.model",),
        builder="sentence_piece_models:build_with_bytes",
        roles=ANGLES,
    ),
    TokenizerClass(
        names=("XLMRobertaTokenizer",),
        files=("sentencepiece.bpe.model",),
        builder="sentence_piece_models:build_with_shifted_ids",
        roles=WRAPPED,
    ),
    TokenizerClass(
        names=("MarianTokenizer",),
        files=("source.spm", "target.spm", "vocab.json"),
        builder="sentence_piece_models:build_with_vocabulary",
        roles={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    ),
)

OF_NO_ALGORITHM = ("PreTrainedTokenizer", "TokenizersBackend")
"""Classes whose name does not tell the algorithm, because tokenizer.json holds everything."""


def tokenizer_class(checkpoint: Checkpoint, settings: dict[str, Any]) -> TokenizerClass:
    """Find the row of a checkpoint.

    Arguments:
        checkpoint: one without tokenizer.json.
        settings: of its tokenizer_config.json.

    Raises:
        TokenizerError: no class is named, or it is not in the table, or a file that it needs is missing.
    """
    found = [name for name in (*TOKENIZER_FILES, "merges.txt") if checkpoint.has(name)]
    beginning = f"{checkpoint.folder} has no tokenizer.json" + (f"; it brings {', '.join(found)}. " if found else ". ")
    remedy = "Save the tokenizer there with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(folder)."
    if not found:
        raise TokenizerError(beginning + remedy)
    name = class_name(checkpoint, settings)
    if name is None or name.removesuffix("Fast") in OF_NO_ALGORITHM:
        name = _read_config(checkpoint).get("model_type")
    if not isinstance(name, str):
        raise TokenizerError(
            f"{beginning}Which class of tokenizer they are for is not said: expected tokenizer_class in "
            f"tokenizer_config.json, or model_type in config.json. Add the first. Or: {remedy}"
        )
    kind = find_class(name)
    if kind is None:
        known = ", ".join(name for kind in TABLE for name in kind.names)
        raise TokenizerError(f"{beginning}They are for {name!r}; this version builds {known}. {remedy}")
    missing = [file for file in kind.files if not checkpoint.has(file)]
    if missing:
        raise TokenizerError(f"{beginning}{kind.names[0]} also needs {', '.join(missing)}. Fetch it. Or: {remedy}")
    return kind


def default_roles(checkpoint: Checkpoint, settings: dict[str, Any]) -> dict[str, str]:
    """Find the special tokens of a checkpoint's class, for roles that the files beside tokenizer.json do not name."""
    name = class_name(checkpoint, settings) or _read_config(checkpoint).get("model_type")
    kind = find_class(name) if isinstance(name, str) else None
    return {} if kind is None else kind.roles


def class_name(checkpoint: Checkpoint, settings: dict[str, Any]) -> str | None:
    """Read the class from tokenizer_config.json or else config.json; a name that tells the algorithm is preferred."""
    named = [settings.get("tokenizer_class"), _read_config(checkpoint).get("tokenizer_class")]
    names = [name for name in named if isinstance(name, str)]
    telling = [name for name in names if name.removesuffix("Fast") not in OF_NO_ALGORITHM]
    return next(iter([*telling, *names]), None)


def find_class(name: str) -> TokenizerClass | None:
    """Find the row of a class, or of a model type of the same name."""
    return next((kind for kind in TABLE if _stem(name) in map(_stem, kind.names)), None)


def _read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint.read_object("config.json") if checkpoint.has("config.json") else {}


def _stem(name: str) -> str:
    """Strip the parts in which a class and a model type of the same name differ."""
    return name.removesuffix("Fast").removesuffix("Tokenizer").replace("-", "").replace("_", "").lower()
