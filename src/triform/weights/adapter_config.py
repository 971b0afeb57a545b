"""Settings of an adapter: every key of adapter_config.json is followed, checked, harmless, or refused by name."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from triform.errors import UnsupportedModelError, shown
from triform.hub import ADAPTER, Checkpoint
from triform.settings import MAX_SIZE, REQUIRED, Settings

Number = TypeVar("Number", int, float)

CHECKED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    # Other values change the base weights first, and the tensors are relative to the changed weights.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "use_qalora": (False,),
    **dict.fromkeys(
        """
        layer_replication alora_invocation_tokens target_parameters use_bdlora arrow_config kasa_config
        monteclora_config
        """.split(),
        ([], {}),
    ),
}
"""Key → values that Triform implements."""
HARMLESS = frozenset(
    """
    auto_mapping peft_version inference_mode lora_dropout fan_in_fan_out bias modules_to_save megatron_config
    megatron_core loftq_config eva_config corda_config lora_ga_config runtime_config qalora_group_size velora_config
    ephemeral_gpu_offload
    """.split()
)
"""Settings of the training, or settings that the tensors show."""
MIN_NUMBER, MAX_NUMBER = 1e-9, 1e9
"""Limits of an alpha, so that float32 can hold its quotient with a rank."""
DEFAULT = 8
"""The default rank, and the default alpha."""
DEFAULT_TABLE = "embed_tokens"
"""The module of a list of `trainable_token_indices`."""

CHARACTER = r"[\w\-/^$.]|\\[.\-dDwW]|\[\^?[\w.\-\\]+\]"
EXPRESSION = re.compile(rf"(?:(?:{CHARACTER})[*+?]?|\((?:\?:)?(?:{CHARACTER})+(?:\|(?:{CHARACTER})+)*\)|\|)+")
"""Regular expressions of patterns: characters, classes, alternatives, and groups of words. A quantifier applies to one
character, so quantifiers cannot be nested."""
MAX_QUANTIFIERS, MAX_GROUPS, MAX_PATTERNS = 2, 4, 10_000
"""Limits of one expression and of one object. A search takes a time that grows with the length of a name to the power
of the quantifiers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """The contents of adapter_config.json."""

    base: str | None
    """Folder or Hub id of the model that the adapter was trained on."""
    revision: str | None
    """Revision of the base model on the Hub."""
    task_type: str | None
    rank: int
    alpha: float
    ranks: Mapping[re.Pattern[str], int]
    """Expression for a module's name → rank."""
    alphas: Mapping[re.Pattern[str], float]
    """Expression for a module's name → alpha."""
    use_rslora: bool
    use_dora: bool
    has_bias: bool
    """Whether each low-rank update of a linear has a bias."""
    target_modules: Sequence[str] | str
    """Ends of the names of modules, or a regular expression for whole names; empty if the file names none."""
    exclude_modules: Sequence[str] | str
    """Modules that `target_modules` names and that are excluded, in the same form."""
    layers: tuple[int, ...]
    """Numbers of the layers with updates; empty for all."""
    layers_pattern: tuple[str, ...]
    """Names of the module that holds the layers; empty for any name."""
    has_tied_updates: bool
    """Whether tables that are tied to a target have updates too."""
    token_rows: Mapping[str, tuple[int, ...]]
    """End of the name of an embedding → rows that the adapter replaces."""

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> "AdapterConfig":
        """Read adapter_config.json.

        Raises:
            UnsupportedModelError: the adapter is not a LoRA, or has settings that Triform lacks.
        """
        settings = Settings.of_file(checkpoint, ADAPTER.config)
        settings.string("peft_type")
        for key, allowed in CHECKED.items():
            settings.expect(key, *allowed)
        settings.ignore(*HARMLESS)
        config = cls(
            base=settings.optional_string("base_model_name_or_path"),
            revision=settings.optional_string("revision"),
            task_type=settings.optional_string("task_type"),
            rank=settings.integer("r", DEFAULT),
            alpha=_number(settings, "lora_alpha", REQUIRED if settings.mentions("lora_alpha") else DEFAULT),
            ranks=_patterns(settings, "rank_pattern", Settings.integer),
            alphas=_patterns(settings, "alpha_pattern", _number),
            use_rslora=settings.boolean("use_rslora", False),
            use_dora=settings.boolean("use_dora", False),
            has_bias=settings.boolean("lora_bias", False),
            target_modules=_names(settings, "target_modules"),
            exclude_modules=_names(settings, "exclude_modules"),
            layers=_layers(settings),
            layers_pattern=settings.one_or_more_strings("layers_pattern", ()),
            has_tied_updates=settings.boolean("ensure_weight_tying", False),
            token_rows=_token_rows(settings),
        )
        settings.close()
        return config

    def modules_of_all_layers(self) -> tuple[str, ...]:
        """Return the ends of names of modules that each layer must have; empty if the file cannot say so."""
        if isinstance(self.target_modules, str) or self.exclude_modules or self.layers:
            return ()
        return tuple(target for target in self.target_modules if not re.search(r"\d", target))

    def is_target(self, module: str) -> bool:
        """Return whether PEFT puts an update on a module; True if an expression is too complex to say so."""
        if self.has_tied_updates or not self.target_modules:
            return True
        is_excluded = bool(self.exclude_modules) and _fits(self.exclude_modules, module, unknown=False)
        return _fits(self.target_modules, module, unknown=True) and not is_excluded and self._has_layer(module)

    def _has_layer(self, module: str) -> bool:
        parts = f".{module}".split(".")
        numbers = [
            int(part)
            for before, part in pairwise(parts)
            if part.isdecimal() and (not self.layers_pattern or before in self.layers_pattern)
        ]
        return not self.layers or (bool(numbers) and numbers[-1] in self.layers)

    def rank_and_scale(self, module: str) -> tuple[int, float]:
        """Return the rank of a module's update, and the factor of the update."""
        rank, alpha = _by_pattern(self.ranks, module, self.rank), _by_pattern(self.alphas, module, self.alpha)
        return rank, alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _number(settings: Settings, key: str, default: float = REQUIRED) -> float:
    value = settings.number(key, default)
    if not MIN_NUMBER < value < MAX_NUMBER:
        settings.refuse(key, f"a number above 0 and below {MAX_NUMBER:g}")
    return value


def _patterns(settings: Settings, key: str, read: Callable[[Settings, str], Number]) -> dict[re.Pattern[str], Number]:
    entries = settings.mapping(key) or {}
    if len(entries) > MAX_PATTERNS:
        settings.refuse(key, f"an object with at most {MAX_PATTERNS:,} entries")
    numbers = Settings(entries, f"{settings.where}: {key}")
    return {_compile(expression, numbers.where): read(numbers, expression) for expression in entries}


def _compile(expression: str, where: str) -> re.Pattern[str]:
    """Return a pattern for names whose last parts, between dots, fit `expression`, as in PEFT."""
    quantifiers = sum(expression.replace("(?:", "(").count(character) for character in "*+?")
    try:
        is_simple = quantifiers <= MAX_QUANTIFIERS and expression.count("(") <= MAX_GROUPS
        if is_simple and EXPRESSION.fullmatch(expression):
            return re.compile(rf"(.*\.)?({expression})$")
        reason = f"its quantifiers must apply to one character; at most {MAX_QUANTIFIERS}, and {MAX_GROUPS} groups"
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error)
    raise UnsupportedModelError(
        f"{where}: {shown(expression)} cannot be used: {reason}. Name the modules in full in a copy of the file."
    )


def _by_pattern(patterns: Mapping[re.Pattern[str], Number], module: str, default: Number) -> Number:
    return next((value for pattern, value in patterns.items() if pattern.match(module)), default)


def _names(settings: Settings, key: str) -> Sequence[str] | str:
    names: Sequence[str] | str = settings.optional(key, "a list of names, or a regular expression", list, str) or ()
    return names if isinstance(names, str) else settings.strings(key, ())


def _layers(settings: Settings) -> tuple[int, ...]:
    key, expected = "layers_to_transform", "a number, or a list of numbers"
    given = settings.optional(key, expected, list, int)
    layers = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(layer) is int for layer in layers):
        settings.refuse(key, expected)
    return tuple(layers)


def _fits(names: Sequence[str] | str, module: str, *, unknown: bool) -> bool:
    """Return whether names, or an expression, fit a module; `unknown` for an expression that may take very long."""
    if not isinstance(names, str):
        return f".{module}".endswith(tuple(f".{name}" for name in names))
    try:
        _compile(names, "")  # to check the expression
        return re.fullmatch(names, module) is not None
    except UnsupportedModelError:
        return unknown


def _token_rows(settings: Settings) -> dict[str, tuple[int, ...]]:
    key, expected = "trainable_token_indices", "a list of ids, or an object from names of embeddings to lists of ids"
    given = settings.optional(key, expected, list, dict)
    named = given if isinstance(given, dict) else {DEFAULT_TABLE: given or []}
    for rows in named.values():
        if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < MAX_SIZE for row in rows):
            settings.refuse(key, expected)
    return {name: tuple(rows) for name, rows in named.items() if rows}
