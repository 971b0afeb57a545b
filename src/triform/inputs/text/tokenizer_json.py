"""tokenizer.json → a backend of the `tokenizers` library, with the class and the settings beside the file."""

import tokenizers

from triform.errors import TokenizerError
from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import read_added_tokens
from triform.inputs.text.backend import Backend
from triform.inputs.text.byte_level import frame_ends
from triform.inputs.text.library import damage_in
from triform.inputs.text.limits import check_content, check_parts
from triform.inputs.text.pipeline import Pipeline, complete
from triform.inputs.text.tokenizer_classes import TokenizerClass, class_beside_tokenizer_json, names_unknown_class
from triform.inputs.text.tokenizer_settings import TokenizerSettings

AS_IS = 'If tokenizer.json is right, write "tokenizer_class": "PreTrainedTokenizerFast" into tokenizer_config.json.'


def read_tokenizer_json(checkpoint: Checkpoint, settings: TokenizerSettings) -> Backend:
    """Read tokenizer.json.

    Raises:
        TokenizerError: the file is damaged, needs too much memory or time, or contradicts the settings.
    """
    path = str(checkpoint.folder / "tokenizer.json")
    with damage_in(path):
        content = (checkpoint.folder / "tokenizer.json").read_bytes()
    check_content(content, path)
    with damage_in(path):
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    check_parts(tokenizer, path)
    kind = class_beside_tokenizer_json(checkpoint, settings, has_byte_level=b'"ByteLevel"' in content)
    if kind is not None and kind.pipeline is None and all(map(checkpoint.has, kind.files)):
        settings.name_roles(kind.roles)
        return kind.build(checkpoint, settings)
    settings.forget("add_bos_token", "add_eos_token")
    _take_defaults(tokenizer, kind, settings)
    pipeline = None if kind is None else kind.pipeline_of_class()
    if kind is not None and pipeline is not None:
        _check_class(tokenizer, kind, pipeline, path)
        if settings.lists_added_tokens:
            _check_added_tokens(tokenizer, checkpoint, settings, path)
        # Otherwise transformers takes a part of the pipeline from the file.
        settings.expect("trust_remote_code", False)
        with damage_in(path):
            return pipeline.build(tokenizer, checkpoint, settings, path)
    if names_unknown_class(checkpoint, settings):
        _check_settings(tokenizer, settings, path)
    return complete(tokenizer, checkpoint, settings, frame_ends, path)


def _take_defaults(tokenizer: tokenizers.Tokenizer, kind: TokenizerClass | None, settings: TokenizerSettings) -> None:
    """Take what the settings leave open from the class, then from truncation and padding of the file.

    The file's lengths of truncation and padding are not used, as in transformers.
    """
    settings.name_roles({} if kind is None else kind.roles)
    if tokenizer.truncation is not None:
        settings.default("truncation_side", tokenizer.truncation["direction"])
    if tokenizer.padding is not None:
        settings.name_roles({"pad_token": tokenizer.padding["pad_token"]})


def _check_class(tokenizer: tokenizers.Tokenizer, kind: TokenizerClass, pipeline: Pipeline, path: str) -> None:
    """Refuse a vocabulary of another algorithm.

    Raises:
        TokenizerError: naming the file and the class.
    """
    algorithm = type(tokenizer.model).__name__
    prefix = getattr(tokenizer.model, "continuing_subword_prefix", None) if algorithm == "BPE" else None
    if algorithm != pipeline.model or prefix:
        found = f"{algorithm} with the prefix {prefix!r}" if prefix else algorithm
        remedy = "transformers takes this class for every model of its type." if kind.overrules else AS_IS
        raise TokenizerError(f"{path} holds {found}, and the class {kind.names[0]} needs {pipeline.model}. {remedy}")


def _check_added_tokens(
    tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: TokenizerSettings, path: str
) -> None:
    """Refuse added tokens of the file that tokenizer_config.json lists neither by id nor by role.

    transformers builds the tokenizer without them.

    Raises:
        TokenizerError: naming both files.
    """
    expected = {
        token.content: None if number is not None else repr(token)
        for number, token in read_added_tokens(checkpoint, settings, {})
    }
    unlisted = [
        token.content
        for token in tokenizer.get_added_tokens_decoder().values()
        if expected.get(token.content, "") not in (None, repr(token))
    ]
    if unlisted:
        raise TokenizerError(
            f"{path} adds {', '.join(map(repr, unlisted[:5]))}, and added_tokens_decoder of {settings.where} does not "
            f"list them, or not so. Take added_tokens_decoder out of a copy of the file. {AS_IS}"
        )


def _check_settings(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, path: str) -> None:
    """Compare settings of a class that is not in the table with what tokenizer.json does.

    Raises:
        TokenizerError: naming both files.
    """

    def normal(text: str) -> str:
        return text if tokenizer.normalizer is None else str(tokenizer.normalizer.normalize_str(text))

    cutter = tokenizer.pre_tokenizer
    words = [("a", (0, 1))] if cutter is None else cutter.pre_tokenize_str("a")
    found = {
        "do_lower_case": normal("A").strip("▁ ") == "a",
        "strip_accents": normal("é").strip("▁ ") == "e",
        "tokenize_chinese_chars": " 猫 " in normal("a猫a"),
        "add_prefix_space": bool(words) and words[0][0][:1] in ("Ġ", "▁"),
    }
    for key, does in found.items():
        asked = settings.optional_boolean(key)
        if asked is not None and asked is not does:
            raise TokenizerError(
                f"{settings.where} has {key} = {str(asked).lower()}, and {path} does the opposite. Remove the key if "
                "tokenizer.json is right, or save the tokenizer again with transformers."
            )
