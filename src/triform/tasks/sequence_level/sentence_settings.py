"""The settings files of sentence-transformers 6: of a model, and of its Transformer with the tokenizer.

Without a modules.json sentence-transformers reads neither file.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from triform.hub import Checkpoint
from triform.inputs import Tokenizer
from triform.settings import REQUIRED, Settings

MODULES = "modules.json"
MODEL = "config_sentence_transformers.json"
TRANSFORMER = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names of the Transformer's settings, of which the first with a key counts."""

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Settings of images and sound, of which a processor's class alone concerns text."""

HARMLESS_MODEL = ("__version__", "requirements", "keep_in_fp32_modules")
HARMLESS_TRANSFORMER = (
    *("unpad_inputs", "backend", "cache_dir"),
    # Only for inputs that are named as queries or as documents, which `encode` of sentence-transformers does not do.
    *("query_length", "document_length", "query_expansion"),
)
LOADING = ("subfolder", "token", "cache_dir", "revision", "local_files_only", "trust_remote_code")
"""Arguments of a load that sentence-transformers replaces by the caller's."""
HARMLESS_MODEL_KWARGS = (
    *LOADING,
    *("torch_dtype", "dtype", "attn_implementation", "device_map", "low_cpu_mem_usage", "use_safetensors"),
    *("add_pooling_layer", "max_memory", "offload_folder", "offload_state_dict", "output_loading_info"),
)
"""Arguments of the model: place, format and kernels. Its last hidden states stay the same."""
HARMLESS_CONFIG_KWARGS = (
    *LOADING,
    *("use_cache", "attn_implementation", "_attn_implementation", "torch_dtype", "dtype", "add_pooling_layer"),
    *("output_hidden_states", "output_attentions", "return_dict"),
)
HARMLESS_PROCESSOR_KWARGS = (*LOADING, "use_fast", "padding_side", "legacy")
TOKENIZER_SWITCHES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "split_special_tokens")
HARMLESS_TEXT_KWARGS = (
    *("padding", "pad_to_multiple_of", "padding_side", "return_tensors", "return_token_type_ids", "verbose"),
    *("return_length", "return_special_tokens_mask", "return_offsets_mapping", "logits_to_keep"),
)
"""Arguments for a batch. One text alone has no padding, and its segments are zeros."""

COSINE = "cosine"
SIMILARITIES = (COSINE, "dot", "euclidean", "manhattan")


class ModelSettings(NamedTuple):
    """The settings of config_sentence_transformers.json."""

    prompts: Mapping[str, str] = MappingProxyType({})
    default_prompt: str | None = None
    truncate_dim: int | None = None
    """The number of leading values that are kept of each vector."""
    similarity: str = COSINE
    """One of `SIMILARITIES`."""
    activation: str | None = None
    """The torch module that turns a cross-encoder's logit into a score."""

    @classmethod
    def read(cls, checkpoint: Checkpoint, model_type: str) -> "ModelSettings":
        """Read the file, if there is one.

        Arguments:
            checkpoint: the folder of modules.json.
            model_type: the kind of model that is needed, SentenceTransformer or CrossEncoder.

        Raises:
            UnsupportedModelError: another kind of model, or a setting that Triform lacks.
        """
        own = Settings.of_file(checkpoint, MODEL) if checkpoint.has(MODEL) else Settings({}, MODEL)
        own.ignore(*HARMLESS_MODEL)
        if own.mentions("model_type") and own.optional_string("model_type") != model_type:
            own.refuse("model_type", f"{model_type!r}, which the task needs")
        similarity = own.string("similarity_fn_name", COSINE)
        if similarity not in SIMILARITIES:
            own.refuse("similarity_fn_name", f"one of {', '.join(SIMILARITIES)}")
        settings = cls(
            prompts=own.texts("prompts"),
            default_prompt=own.optional_string("default_prompt_name"),
            truncate_dim=own.optional_integer("truncate_dim"),
            similarity=similarity,
            activation=own.optional_string("activation_fn"),
        )
        if settings.default_prompt is not None and settings.default_prompt not in settings.prompts:
            own.refuse("default_prompt_name", f"one of the names of prompts: {', '.join(settings.prompts) or 'none'}")
        own.close()
        return settings


class MessageFormat(StrEnum):
    """The content of a message: a text, or a list of parts."""

    AUTO = "auto"
    """As the chat template reads it; a model without a template reads plain text."""
    FLAT = "flat"
    STRUCTURED = "structured"


class MessageSettings(NamedTuple):
    """The form of the messages of a model that reads texts as messages of its chat template."""

    format: MessageFormat = MessageFormat.AUTO
    add_generation_prompt: bool = False


class TransformerSettings(NamedTuple):
    """The settings of sentence_bert_config.json, or of the file with an older name."""

    lowercase: bool = False
    """Whether text is in lower case before the tokenizer normalizes it."""
    tokenizer: Mapping[str, Any] = MappingProxyType({})
    """Settings that win over tokenizer_config.json."""
    messages: MessageSettings | None = None
    """The form of messages; None for a model that reads plain text, as every file without modality_config means."""

    @classmethod
    def without_files(cls) -> "TransformerSettings":
        """The settings of a model without modules.json, which reads messages if it has a chat template."""
        return cls(messages=MessageSettings())

    @classmethod
    def read(cls, checkpoint: Checkpoint, task: str, output: tuple[str, str]) -> "TransformerSettings":
        """Read the file, if there is one.

        Arguments:
            checkpoint: the folder of the Transformer.
            task: the `transformer_task` that is needed.
            output: the output of transformers that is needed, and its name in sentence-transformers.

        Raises:
            UnsupportedModelError: a setting that Triform lacks.
        """
        _check_processor(checkpoint)
        names = [name for name in TRANSFORMER if checkpoint.has(name)]
        name = next((name for name in names if checkpoint.read_object(name)), None)
        if name is None:
            return cls()
        own = Settings.of_file(checkpoint, name)
        own.ignore(*HARMLESS_TRANSFORMER)
        own.expect("transformer_task", task)
        format = _read_modalities(own, *output)
        if own.optional_string("tokenizer_name_or_path") is not None:
            own.refuse("tokenizer_name_or_path", "none: Triform reads the tokenizer beside the model")
        _refuse_others(own, "model_kwargs", "model_args", HARMLESS_MODEL_KWARGS)
        _refuse_others(own, "config_kwargs", "config_args", HARMLESS_CONFIG_KWARGS)
        lowercase = own.boolean("do_lower_case", False)
        tokenizer: dict[str, Any] = {}
        if (length := own.optional_integer("max_seq_length")) is not None:
            tokenizer["model_max_length"] = length
        processing, messages = _read_processing_kwargs(own, format)
        tokenizer |= _read_processor_kwargs(own) | processing
        own.close()
        return cls(lowercase=lowercase, tokenizer=tokenizer, messages=messages)

    def read_tokenizer(self, checkpoint: Checkpoint) -> Tokenizer:
        """Read the tokenizer of a checkpoint, changed by these settings."""
        tokenizer = Tokenizer.from_checkpoint(checkpoint, self.tokenizer or None)
        return tokenizer.lowercased() if self.lowercase else tokenizer


def _check_processor(checkpoint: Checkpoint) -> None:
    """Refuse a processor of other media, which may prepare text in its own way."""
    for name in PROCESSORS:
        if checkpoint.has(name):
            own = Settings.of_file(checkpoint, name)
            if own.optional_string("processor_class") is not None:
                own.refuse("processor_class", "none: Triform reads the tokenizer alone")


def _read_modalities(own: Settings, method_output: str, module_output: str) -> MessageFormat | None:
    """Read the format of messages, or None for plain text; refuse another output than the one that is needed."""
    modalities = own.mapping("modality_config")
    if own.string("module_output_name", module_output if modalities is None else REQUIRED) != module_output:
        own.refuse("module_output_name", repr(module_output))
    if modalities is None:
        return None
    needed = {"method": "forward", "method_output_name": method_output}
    if modalities.get("text") != needed:
        own.refuse("modality_config", f"text = {needed}, which is all that Triform implements")
    message = modalities.get("message")
    if message is None:
        return None
    if not isinstance(message, dict) or {**needed, "format": message.get("format")} != {"format": None, **message}:
        own.refuse("modality_config", f"message = {needed} with a format, which is all that Triform implements")
    format = Settings(message, f"{own.where}: modality_config: message")
    if format.string("format", MessageFormat.AUTO) not in tuple(MessageFormat):
        format.refuse("format", " or ".join(MessageFormat))
    return MessageFormat(format.string("format", MessageFormat.AUTO))


def _arguments(own: Settings, name: str, older: str) -> Settings:
    """Read an object of arguments; the older name wins, as in sentence-transformers."""
    newer, old = own.mapping(name), own.mapping(older)
    return Settings(newer or {}, f"{own.where}: {name}") if old is None else Settings(old, f"{own.where}: {older}")


def _refuse_others(own: Settings, name: str, older: str, harmless: tuple[str, ...]) -> None:
    arguments = _arguments(own, name, older)
    arguments.ignore(*harmless)
    arguments.close()


def _read_processor_kwargs(own: Settings) -> dict[str, Any]:
    """Read the arguments of the tokenizer's load: settings that win over tokenizer_config.json."""
    arguments = _arguments(own, "processor_kwargs", "tokenizer_args")
    arguments.ignore(*HARMLESS_PROCESSOR_KWARGS)
    found: dict[str, Any] = {}
    if (length := arguments.optional_integer("model_max_length")) is not None:
        found["model_max_length"] = length
    if (side := arguments.optional_string("truncation_side")) is not None:
        if side not in ("left", "right"):
            arguments.refuse("truncation_side", "left or right")
        found["truncation_side"] = side
    found |= {name: arguments.boolean(name, False) for name in TOKENIZER_SWITCHES if arguments.mentions(name)}
    arguments.close()
    return found


def _read_processing_kwargs(
    own: Settings, format: MessageFormat | None
) -> tuple[dict[str, Any], MessageSettings | None]:
    """Read the arguments of the tokenizer's calls, of which the length alone may differ, and of the chat template."""
    arguments = Settings(own.mapping("processing_kwargs") or {}, f"{own.where}: processing_kwargs")
    # Triform reads no other media.
    arguments.ignore("audio", "image", "video")
    messages = None
    if format is None:
        arguments.ignore("chat_template")
    else:
        template = Settings(arguments.mapping("chat_template") or {}, f"{arguments.where}: chat_template")
        template.ignore("restore_suffix")  # of a text that is cut
        messages = MessageSettings(
            format=format, add_generation_prompt=template.boolean("add_generation_prompt", False)
        )
        template.close()
    found: dict[str, Any] = {}
    for part in ("common", "text"):
        text = Settings(arguments.mapping(part) or {}, f"{arguments.where}: {part}")
        text.ignore(*HARMLESS_TEXT_KWARGS)
        text.expect("add_special_tokens", True)
        text.expect("return_attention_mask", True)
        text.expect("return_overflowing_tokens", False)
        text.expect("stride", 0)
        text.expect("truncation", True, "longest_first", "only_first")
        if part == "text" and (length := text.optional_integer("max_length")) is not None:
            found["model_max_length"] = length
        text.close()
    arguments.close()
    return found, messages
