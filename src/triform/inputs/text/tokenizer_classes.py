"""The table of tokenizer classes.

The files alone do not determine the tokenizer. Of two checkpoints with the same vocab.json and merges.txt, one may put
<s> and </s> around a text: a wrong choice gives the right ids and wrong answers. The class decides. Its name is
`tokenizer_class` in tokenizer_config.json, or else in config.json. Where neither names a class, `model_type` decides,
since the classes are named after the first model that used them: a model type is compared with the class's name without
"Tokenizer". Without tokenizer.json, a class that is not in the table is refused, because a guess would be silent.

A class of the table decides beside a tokenizer.json too, as in transformers 5: the file gives the vocabulary, and the
class and its settings give the rest. With any other class, tokenizer.json gives everything.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from triform.errors import TokenizerError
from triform.hub import TOKENIZER_FILES, Checkpoint
from triform.inputs.text.backend import Backend
from triform.inputs.text.tokenizer_settings import TokenizerSettings

if TYPE_CHECKING:
    from triform.inputs.text.pipeline import Pipeline


class TokenizerClass(NamedTuple):
    """A row of the table: the classes that are built alike."""

    names: tuple[str, ...]
    """The names in `transformers`, without a final "Fast"."""
    files: tuple[str, ...]
    """The files that the checkpoint must have."""
    builder: str
    """Module and function, imported only for a checkpoint that needs it."""
    roles: Mapping[str, str | None]
    """The special tokens where tokenizer_config.json and special_tokens_map.json do not name them."""
    pipeline: str | None = None
    """Module and pipeline beside a tokenizer.json; None if the class does not read the file."""
    named_by_model: bool = True
    """False if the model type alone does not mean this class beside a tokenizer.json."""
    overrules: bool = False
    """True if the model type wins beside a tokenizer.json, since published files name another class."""

    def build(self, checkpoint: Checkpoint, settings: TokenizerSettings) -> Backend:
        """Build the tokenizer of a checkpoint without tokenizer.json; the settings name the special tokens."""
        backend: Backend = _import(self.builder)(checkpoint, settings)
        return backend

    def pipeline_of_class(self) -> "Pipeline | None":
        """Import the pipeline."""
        pipeline: Pipeline | None = None if self.pipeline is None else _import(self.pipeline)
        return pipeline


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"triform.inputs.text.{module}"), name)


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
DIGITS_APART = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")

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
        pipeline="word_piece:PLAIN",
        roles=BRACKETS,
    ),
    TokenizerClass(
        names=("MPNetTokenizer",),
        files=("vocab.txt",),
        builder="word_piece:build_wrapped",
        pipeline="word_piece:WRAPPED",
        roles={**WRAPPED, "unk_token": "[UNK]"},
    ),
    TokenizerClass(
        names=("GPT2Tokenizer",),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_bare",
        pipeline="byte_level:BARE",
        roles={**END_OF_TEXT, "pad_token": None},
    ),
    TokenizerClass(
        names=("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer", "LEDTokenizer"),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_wrapped",
        pipeline="byte_level:WRAPPED",
        roles=WRAPPED,
    ),
    TokenizerClass(
        names=("Qwen2Tokenizer",),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_digits_apart",
        pipeline="byte_level:DIGITS_APART",
        overrules=True,
        roles=DIGITS_APART,
    ),
    TokenizerClass(
        names=("Qwen3Tokenizer",),
        files=("vocab.json", "merges.txt"),
        builder="byte_level:build_digits_apart",
        pipeline="byte_level:DIGITS_APART",
        roles=DIGITS_APART,
    ),
    TokenizerClass(
        names=("T5Tokenizer", "MT5Tokenizer"),
        files=("spiece.model",),
        builder="sentence_piece_models:build_with_extra_ids",
        pipeline="metaspace:WITH_EXTRA_IDS",
        roles={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    ),
    TokenizerClass(
        names=("LlamaTokenizer",),
        files=("tokenizer.model",),
        builder="sentence_piece_models:build_with_bytes",
        pipeline="metaspace:WITH_BYTES",
        named_by_model=False,
        roles=ANGLES,
    ),
    TokenizerClass(
        names=("XLMRobertaTokenizer",),
        files=("sentencepiece.bpe.model",),
        builder="sentence_piece_models:build_with_shifted_ids",
        pipeline="metaspace:WRAPPED",
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
WITH_TYPES = (
    *("BertTokenizer", "ElectraTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer", "ConvBertTokenizer"),
    *("LayoutLMTokenizer", "LayoutLMv2Tokenizer", "LxmertTokenizer", "DPRContextEncoderTokenizer"),
    *("DPRQuestionEncoderTokenizer", "DebertaTokenizer", "DebertaV2Tokenizer", "FNetTokenizer", "CanineTokenizer"),
    *("MarkupLMTokenizer", "TapasTokenizer"),
)
"""Classes of transformers that give token types where no file has `model_input_names`; all others give none."""
WITHOUT_CLASS = ("MistralTokenizer",)
"""Model types, written as classes, whose tokenizer.json holds everything whichever class is named."""


def tokenizer_class(checkpoint: Checkpoint, settings: TokenizerSettings) -> TokenizerClass:
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
    name = _telling_name(checkpoint, settings)
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


def class_beside_tokenizer_json(
    checkpoint: Checkpoint, settings: TokenizerSettings, *, has_byte_level: bool
) -> TokenizerClass | None:
    """Find the row that decides beside a tokenizer.json; None if the file gives everything.

    Arguments:
        checkpoint: one with tokenizer.json.
        settings: of its tokenizer_config.json.
        has_byte_level: whether the file has a byte-level part. Published files with this part name the class of
            `metaspace:WITH_BYTES`, which has no such part.
    """
    config = _read_config(checkpoint)
    model_type = config.get("model_type")
    by_model = find_class(model_type) if isinstance(model_type, str) else None
    named = settings.optional_string("tokenizer_class") or config.get("tokenizer_class")
    if by_model is not None and by_model.overrules:
        return by_model
    if isinstance(named, str):
        if isinstance(model_type, str) and _stem(model_type) in map(_stem, WITHOUT_CLASS):
            return None
        kind = find_class(named)
        return None if kind is not None and not kind.named_by_model and has_byte_level else kind
    return by_model if by_model is not None and by_model.named_by_model else None


def names_unknown_class(checkpoint: Checkpoint, settings: TokenizerSettings) -> bool:
    """Tell whether the settings name a class that is not in the table and that tells an algorithm."""
    named = settings.optional_string("tokenizer_class") or _read_config(checkpoint).get("tokenizer_class")
    if not isinstance(named, str) or named.removesuffix("Fast") in OF_NO_ALGORITHM:
        return False
    return find_class(named) is None


def gives_token_types(checkpoint: Checkpoint, settings: TokenizerSettings) -> bool:
    """Tell whether the class that transformers makes of a checkpoint gives token types by default."""
    config = _read_config(checkpoint)
    named = settings.optional_string("tokenizer_class") or config.get("tokenizer_class")
    if isinstance(named, str):
        return named.removesuffix("Fast") in WITH_TYPES
    model_type = config.get("model_type")
    kind = find_class(model_type) if isinstance(model_type, str) else None
    return kind is not None and kind.names[0] in WITH_TYPES


def _telling_name(checkpoint: Checkpoint, settings: TokenizerSettings) -> object:
    """Read the name that tells the algorithm: of the class, or else of the model type."""
    config = _read_config(checkpoint)
    named = [settings.optional_string("tokenizer_class"), config.get("tokenizer_class")]
    telling = [name for name in named if isinstance(name, str) and name.removesuffix("Fast") not in OF_NO_ALGORITHM]
    return telling[0] if telling else config.get("model_type")


def find_class(name: str) -> TokenizerClass | None:
    """Find the row of a class, or of a model type of the same name."""
    return next((kind for kind in TABLE if _stem(name) in map(_stem, kind.names)), None)


def _read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint.read_object("config.json") if checkpoint.has("config.json") else {}


def _stem(name: str) -> str:
    """Strip the parts in which a class and a model type of the same name differ."""
    return name.removesuffix("Fast").removesuffix("Tokenizer").replace("-", "").replace("_", "").lower()
