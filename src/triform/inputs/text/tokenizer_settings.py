"""The settings of a tokenizer: tokenizer_config.json, special_tokens_map.json and added_tokens.json.

The files are used as in transformers. If tokenizer_config.json lists its added tokens with their ids
(`added_tokens_decoder`), the two older files are not used. Otherwise special_tokens_map.json wins over it, and
added_tokens.json gives the ids.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from tokenizers import AddedToken

from triform.errors import TokenizerError, UnsupportedModelError, shown
from triform.hub import Checkpoint
from triform.settings import KeyUse, Settings

CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
LISTS = ("extra_special_tokens", "additional_special_tokens")

REPAIR = re.compile(r"fix_\w+_regex")
"""Keys that repair the tokenizer.json of one family."""

NO_LIMIT = 10**9
"""A `model_max_length` of at least this means that tokenizer_config.json sets no limit."""

HARMLESS = (
    # How the tokenizer was made, and by whom.
    *("name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file", "spm_file"),
    *("tokenizer_config_file", "full_tokenizer_file", "added_tokens_file", "target_vocab_file", "target_spm"),
    *("source_spm", "processor_class", "backend", "is_local", "local_files_only", "files_loaded", "auto_map"),
    *("transformers_version", "tokenizers_version", "use_fast", "from_slow", "verbose"),
    *("tokenizer_type", "device_map", "cache_dir", "revision", "subfolder", "slow_tokenizer_class", "proxies"),
    *("force_download", "resume_download", "use_auth_token", "max_model_input_sizes", "vocab_size", "config"),
    *("_commit_hash", "_from_auto", "_from_pipeline", "trust_remote_code"),
    # Padding and calls: nothing is padded, and a text is cut only if the caller asks.
    *("padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id", "pad_token_type", "truncation"),
    *("truncation_strategy", "max_length", "stride", "return_attention_mask", "return_token_type_ids"),
    # The template of conversations is read by its own reader.
    *("chat_template", "chat_control_tokens", "response_template", "response_schema", "use_default_system_prompt"),
    # Ids of roles, repeated from config.json.
    *(f"{role}_id" for role in ROLES),
    # Settings of tokenizers in Python, which transformers no longer has.
    *("do_basic_tokenize", "never_split", "clean_text", "wordpieces_prefix", "errors", "spaces_between_special_tokens"),
    *("sp_model_kwargs", "source_lang", "target_lang", "add_dummy_prefix_space"),
    # Settings that only some classes have.
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "trim_offsets", "extra_ids"),
    *("legacy", "separate_vocabs", "add_bos_token", "add_eos_token", "language", "task", "predict_timestamps"),
)
"""Keys of tokenizer_config.json that no tokenizer follows, unless its class has read them before."""

OF_DOWNLOADS = (
    *("use_fast", "trust_remote_code", "code_revision", "token", "use_auth_token", "cache_dir", "proxies"),
    *("force_download", "resume_download", "local_files_only"),
)
"""Keywords of `AutoTokenizer.from_pretrained` for downloads and code, which do not reach the tokenizer."""
OF_FILES = ("subfolder", "revision", "tokenizer_type", "gguf_file", "config")
"""Keywords of `AutoTokenizer.from_pretrained` that choose other files."""


class TokenizerSettings(Settings):
    """The settings of tokenizer_config.json and special_tokens_map.json, and of the caller, which take precedence."""

    overrides: Mapping[str, Any]
    """The settings of the caller."""
    in_file: frozenset[str]
    """The keys of tokenizer_config.json."""
    own_roles: frozenset[str]
    """The roles that a file or the caller names; the class of the tokenizer names the others."""
    from_map: frozenset[str]
    """The keys that special_tokens_map.json gives."""

    @property
    def lists_added_tokens(self) -> bool:
        """True if tokenizer_config.json lists its added tokens, so that the older files are not used."""
        return self._values.get("added_tokens_decoder") is not None

    def token(self, key: str) -> AddedToken | None:
        """Read a token: its text, or an object with its content and flags; None for an absent key."""
        value = self._read(key, None, "a token's text, or an object with its content", str, dict)
        return None if value is None else self._token(key, value)

    def content(self, key: str) -> str | None:
        """Read the text of a token; None for an absent key."""
        token = self.token(key)
        return None if token is None else str(token.content)

    def listed(self) -> list[AddedToken]:
        """Read the special tokens without a role: keys that end with _token, objects of named tokens, and lists."""
        names = [key for key, value in self._values.items() if _names_token(key, value)]
        entries: Iterable[Any] = ()
        for key in reversed(LISTS):
            # The second key is the older name; only one of the two is used.
            value = self._read(key, (), "a list of tokens", list, tuple, dict)
            entries = value or entries
            last = key if value else LISTS[1]
        # An object of named tokens wins over keys of the same names.
        own = {key: self.token(key) for key in names}
        found = [token for key, token in own.items() if token and not (isinstance(entries, dict) and key in entries)]
        named = self.mapping("model_specific_special_tokens") or {}
        if isinstance(entries, dict):
            found += [self._token(last, value) for value in entries.values()]
            entries = ()
        if not found:
            found = [self._token("model_specific_special_tokens", value) for value in named.values()]
        return found + [self._token(last, value) for value in entries]

    def named(self) -> dict[str, str]:
        """Read the special tokens with a name of their own: name → text, as chat templates know them."""
        extra = self._values.get(LISTS[0]) or self._values.get(LISTS[1])
        found = {key: value for key, value in self._values.items() if _names_token(key, value)}
        found |= self.mapping("model_specific_special_tokens") or {}
        found |= extra if isinstance(extra, dict) else {}
        return {key: str(self._token(key, value).content) for key, value in found.items()}

    def added(self) -> dict[int, AddedToken]:
        """Read `added_tokens_decoder`: id → token."""
        entries = self.mapping("added_tokens_decoder") or {}
        return {self._id(key): self._token("added_tokens_decoder", value) for key, value in entries.items()}

    def optional_boolean(self, key: str) -> bool | None:
        """Read true or false; None for an absent key."""
        value = self._read(key, None, "true or false", bool)
        return None if value is None else bool(value)

    def forget(self, *keys: str) -> None:
        """Take keys as absent that a file has, unless the caller gives them."""
        self.ignore(*keys)
        self._values = {key: value for key, value in self._values.items() if key not in keys or key in self.overrides}

    def name_roles(self, roles: Mapping[str, str | None]) -> None:
        """Give the tokens of roles that no file mentions; None and a null in a file mean that there is no token."""
        self._values = {**roles, **self._values}

    def lists_special_tokens(self) -> bool:
        """Tell whether a list of special tokens is in use that added_tokens.json is compared with."""
        key = LISTS[0] if self._values.get(LISTS[0]) else LISTS[1]
        return isinstance(self._values.get(key), list) and not (key == LISTS[1] and key in self.from_map)

    def lists_tokens(self) -> bool:
        """Tell whether tokenizer_config.json lists the special tokens without a role, be it an empty list."""
        older = self.mentions(LISTS[1]) and LISTS[1] not in self.from_map
        return older or (self.mentions(LISTS[0]) and not isinstance(self._values[LISTS[0]], dict))

    def list_also(self, tokens: Iterable[str]) -> None:
        """Add tokens to the special tokens without a role."""
        key = LISTS[0] if self._values.get(LISTS[0]) else LISTS[1]
        entries = self._values.get(key) or ()
        listed = entries.values() if isinstance(entries, dict) else entries
        self._values = {**self._values, key: [*listed, *tokens]}

    def describe(self, key: str, flags: Mapping[str, bool]) -> None:
        """Give flags to a token of which the settings name only the text."""
        if isinstance(self._values.get(key), str):
            self._values = {**self._values, key: {"content": self._values[key], **flags}}

    def max_length(self) -> int | None:
        """Read the most tokens of a sequence, `model_max_length` or the older `max_len`; None for no limit."""
        key = "model_max_length" if self._values.get("model_max_length") is not None else "max_len"
        limit = self._read(key, NO_LIMIT, "a number of tokens", int, float)
        self.ignore("model_max_length", "max_len")
        if limit < 1:
            self.refuse(key, "a number of tokens")
        return int(limit) if limit < NO_LIMIT else None

    def finish(self) -> None:
        """Refuse keys that no class of tokenizers has, and values that nothing here follows."""
        for key in filter(REPAIR.fullmatch, list(self._values)):
            self.expect(key, False)
        self.expect("init_inputs", [])
        self.expect("fast_tokenizer_files", [], ["tokenizer.json"])
        self.ignore(*HARMLESS)
        self.close()
        # The report is about the file, which has neither the caller's settings nor those of the class.
        for key in set(self._report) - self.in_file:
            del self._report[key]

    def _token(self, key: str, value: Any) -> AddedToken:
        entry = {"content": value} if isinstance(value, str) else value
        expected = f"a token's text, or an object of content, {', '.join(FLAGS[:-1])} and special"
        if not isinstance(entry, dict) or not set(entry) <= {"content", *FLAGS, "__type", "id"}:
            self.refuse_part(key, value, expected)
        flags = {name: entry[name] for name in FLAGS if name in entry}
        content = entry.get("content")
        if not isinstance(content, str) or not content or not all(isinstance(flag, bool) for flag in flags.values()):
            self.refuse_part(key, value, expected)
        # transformers marks an object of its own form special only if the object says so.
        is_special = key != "added_tokens_decoder" and not (key in LISTS and "__type" in entry)
        return AddedToken(content, **{"special": is_special, **flags})

    def _id(self, key: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", key):
            self.refuse_part("added_tokens_decoder", key, "whole numbers as keys, the ids of the tokens")
        return int(key)

    def refuse_part(self, key: str, value: Any, expected: str) -> NoReturn:
        """Raise TokenizerError for a part of the value of a key."""
        raise TokenizerError(f"{self.where}: {key} has {shown(value)}; expected {expected}. Correct the file.")


def read_settings(checkpoint: Checkpoint, overrides: Mapping[str, Any] | None = None) -> TokenizerSettings:
    """Read the settings of a checkpoint.

    Arguments:
        checkpoint: the folder with the files; each may be absent.
        overrides: settings of the caller, as the keywords of `AutoTokenizer.from_pretrained`.

    Raises:
        UnsupportedModelError: a file does not hold a JSON object, special_tokens_map.json has an unknown key, or the
            caller asks for other files.
    """
    overrides = {key: value for key, value in (overrides or {}).items() if key not in OF_DOWNLOADS}
    for key in OF_FILES:
        if overrides.get(key):
            raise UnsupportedModelError(
                f"Settings of the tokenizer of {checkpoint.folder}: {key} = {shown(overrides[key])} asks for other "
                "files. Put the tokenizer's files into this folder, and remove the setting."
            )
    config = checkpoint.read_object(CONFIG) if checkpoint.has(CONFIG) else {}
    roles = _special_tokens_map(checkpoint, used=config.get("added_tokens_decoder") is None)
    if isinstance(config.get(LISTS[0]), list) and isinstance(roles.get(LISTS[0]), list):
        roles[LISTS[0]] = [*config[LISTS[0]], *(token for token in roles[LISTS[0]] if token not in config[LISTS[0]])]
    values = {**config, **roles, **overrides}
    settings = TokenizerSettings(values, str(checkpoint.folder / CONFIG), checkpoint.report.setdefault(CONFIG, {}))
    settings.overrides = overrides
    settings.in_file = frozenset(config)
    settings.from_map = frozenset(roles)
    settings.own_roles = frozenset(role for role in ROLES if values.get(role) is not None)
    return settings


def _special_tokens_map(checkpoint: Checkpoint, *, used: bool) -> dict[str, Any]:
    """Read special_tokens_map.json, as far as the file is used: role or list → tokens."""
    if not checkpoint.has(SPECIAL):
        return {}
    found = checkpoint.read_object(SPECIAL)
    settings = TokenizerSettings(found, str(checkpoint.folder / SPECIAL), checkpoint.report.setdefault(SPECIAL, {}))
    settings.listed()
    for role in ROLES:
        settings.token(role)
    settings.close()
    if not used:
        checkpoint.report[SPECIAL].update(dict.fromkeys(found, KeyUse.HARMLESS))
    return found if used else {}


def read_added_tokens_json(checkpoint: Checkpoint, special: set[str]) -> dict[int, AddedToken]:
    """Read added_tokens.json: id → token.

    Arguments:
        checkpoint: may have the file.
        special: the texts of the tokens that are special.

    Raises:
        TokenizerError: an id is not a whole number.
    """
    if not checkpoint.has(ADDED):
        return {}
    content = checkpoint.read_object(ADDED)
    checkpoint.report[ADDED] = dict.fromkeys(content, KeyUse.FOLLOWED)
    seen: set[int] = set()
    for token, number in content.items():
        if not is_id(number) or not token or number in seen:
            raise TokenizerError(
                f"{checkpoint.folder / ADDED}: expected tokens, and for each a whole number of its own as the id; got "
                f"{shown({token: number})}. Correct the file."
            )
        seen.add(number)
    return {
        number: AddedToken(token, normalized=token not in special, special=token in special)
        for token, number in content.items()
    }


def is_id(value: Any) -> bool:
    """Check whether a value is a whole number that can be an id."""
    return type(value) is int and 0 <= value < 2**31


def _names_token(key: str, value: Any) -> bool:
    is_token = isinstance(value, str) or (isinstance(value, dict) and value.get("__type") == "AddedToken")
    return key.endswith("_token") and key not in ROLES and is_token
