"""LoRA adapters in PEFT's layout: low-rank updates of weights, and replacements of whole tensors.

An adapter uses the tensor names of its base model, so the weight table of the family gives the parameters. The update
of a fused tensor is cut like the tensor, one part for each parameter. Updates are merged while parameters are loaded:
W + scale·B·A, computed in float32 (Hu et al. 2021, arXiv:2106.09685, section 4.1).
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from triform.engines import Floats, Format, StoredTensor, to_float32
from triform.errors import AdapterWarning, ModelNotFoundError, UnsupportedModelError, WeightError
from triform.hub import ADAPTER, Checkpoint
from triform.weights.slices import TensorSlice
from triform.weights.table import WeightTable
from triform.weights.tensors import FORMATS, TensorInfo, Tensors, open_tensors

PREFIX = "base_model.model."
"""The prefix of the model's names in the files."""
LINEAR = ("lora_A", "lora_B")
"""A (r, in) and B (out, r)."""
EMBEDDING = ("lora_embedding_A", "lora_embedding_B")
"""A (r, rows) and B (D, r) of an embedding."""
MAGNITUDE = "lora_magnitude_vector"
"""DoRA's magnitudes (out,)."""
PARTS = "|".join((*LINEAR, *EMBEDDING, MAGNITUDE))
LOW_RANK = rf"(?P<module>.+)\.(?P<part>{PARTS})(\.weight)?"
"""Names of tensors that update the weight of a module."""
WHOLE = r"(?P<module>.+?)(\.base_layer|\.modules_to_save)?\.(?P<last>weight|bias)"
"""Names of tensors that replace a tensor of a module: biases, heads, embeddings."""

READ = frozenset(
    "peft_type task_type base_model_name_or_path r lora_alpha use_rslora use_dora rank_pattern alpha_pattern".split()
)
IGNORED = frozenset(
    """
    auto_mapping peft_version revision inference_mode target_modules exclude_modules lora_dropout fan_in_fan_out bias
    modules_to_save layers_to_transform layers_pattern megatron_config megatron_core loftq_config eva_config
    corda_config lora_ga_config runtime_config qalora_group_size velora_config ephemeral_gpu_offload
    """.split()
)
"""Settings of the training, or settings that the tensors show."""
SOME_LAYERS = ("layers_to_transform", "layers_pattern", "exclude_modules")
"""Settings that exclude some layers of a target module."""
EXPECTED: dict[str, tuple[Any, ...]] = {
    # Other values change the base weights first, and the tensors are relative to the changed weights.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    **dict.fromkeys(("lora_bias", "use_qalora", "ensure_weight_tying"), (False,)),
}
"""Key → values that Triform implements. A key that no constant here names must be absent, null or empty."""
MIN_NUMBER, MAX_NUMBER = 1e-9, 1e9
"""Limits of a rank and an alpha, so that float32 can hold their quotient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """The low-rank update of a parameter: W + scale·B·A.

    With a magnitude m, that of DoRA, m·(W + scale·B·A) / ‖W + scale·B·A‖ for each output channel. Liu et al. 2024,
    arXiv:2402.09353, equation 5.
    """

    a: Floats
    """(r, in), or (r, rows) for an embedding."""
    b: Floats
    """(out, r), or (D, r) for an embedding."""
    scale: float
    magnitude: Floats | None
    """(out,), or (D,) for an embedding."""
    is_table: bool
    """Whether the parameter is an embedding (rows, D), whose columns are the output channels."""

    def __call__(self, tensor: StoredTensor) -> StoredTensor:
        """Return the updated tensor in float32, of the shape of `tensor`: (out, in), or (rows, D)."""
        delta = self.b @ self.a
        weight = to_float32(tensor) + np.float32(self.scale) * (delta.T if self.is_table else delta)
        if self.magnitude is not None:
            norm = np.linalg.norm(weight, axis=0 if self.is_table else 1)
            factor = self.magnitude / norm
            weight *= factor if self.is_table else factor[:, None]
        return StoredTensor(np.ascontiguousarray(weight, np.float32), Format.FLOAT32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """The files of an adapter: low-rank updates and whole tensors."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    tensors: Tensors
    low_rank: dict[str, dict[str, str]] = field(default_factory=dict)
    """Module of the model → part, such as `lora_A` → name of the adapter's tensor."""
    whole: dict[str, str] = field(default_factory=dict)
    """Tensor of the model → name of the adapter's tensor that replaces it."""

    @classmethod
    def open(cls, checkpoint: Checkpoint) -> "Adapter":
        """Read an adapter's config and the headers of its files.

        Raises:
            ModelNotFoundError: the folder has no adapter.
            UnsupportedModelError: the adapter is not a LoRA, or has settings that Triform lacks.
            WeightError: the files are damaged, or hold unknown tensors.
        """
        if not checkpoint.has(ADAPTER.config):
            raise ModelNotFoundError(
                f"{checkpoint.folder} has no {ADAPTER.config}, so it is not an adapter in PEFT's layout. "
                f"Name the folder that holds {ADAPTER.config} and {ADAPTER.weights}."
            )
        config = checkpoint.read_object(ADAPTER.config)
        _check_config(config, str(checkpoint.folder / ADAPTER.config))
        adapter = cls(checkpoint=checkpoint, config=config, tensors=open_tensors(checkpoint, ADAPTER))
        problems = [problem for name in adapter.tensors for problem in adapter._sort(name)]
        _raise_all(checkpoint, problems)
        return adapter

    def _sort(self, name: str) -> Iterator[str]:
        own, info = name.removeprefix(PREFIX), self.tensors[name]
        low_rank, whole = re.fullmatch(LOW_RANK, own), re.fullmatch(WHOLE, own)
        if info.format is None:
            yield f"dtype       {name} {info.dtype}, expected one of {', '.join(FORMATS)}"
        elif low_rank:
            self.low_rank.setdefault(low_rank["module"], {})[low_rank["part"]] = name
        elif ".original_module." in own:
            pass  # a copy of the model's own tensor, which bias="all" writes
        elif whole:
            target = f"{whole['module']}.{whole['last']}"
            other = self.whole.setdefault(target, name)
            if not self.tensors.equal(other, name):
                yield f"differs     {name} from {other}"
        else:
            yield f"unexpected  {name} {list(info.shape)}"

    def warn_of_other_base(self, base: Checkpoint) -> None:
        """Warn if the adapter names a base model on the Hub other than `base`."""
        named = self.config.get("base_model_name_or_path")
        is_hub_id = isinstance(named, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", named)
        if base.revision is not None and is_hub_id and named != base.source:
            warnings.warn(
                f"The adapter {self.checkpoint.source} was trained on {named}, not on {base.source}.",
                AdapterWarning,
                stacklevel=2,
            )

    def changed_parameters(self, table: WeightTable) -> set[str]:
        """Return the canonical names of all updated or replaced parameters."""
        names = [*self.whole, *(f"{module}.weight" for module in self.low_rank)]
        return {canonical for name in names for canonical, _ in table.to_canonical(name)}

    def count_labels(self, table: WeightTable) -> int | None:
        """Return the number of labels of the adapter's classification head; None without one."""
        for name, tensor in self.whole.items():
            shape = self.tensors[tensor].shape
            if shape and any(canonical == "classification_head.weight" for canonical, _ in table.to_canonical(name)):
                return shape[0]
        return None

    def replace_tensors(self, tensors: Tensors, table: WeightTable) -> Tensors:
        """Return the tensors of a model, some replaced by whole tensors of the adapter."""
        replaced = {canonical for name in self.whole for canonical, _ in table.to_canonical(name)}
        infos: dict[str, TensorInfo] = {}
        for name, info in tensors.items():
            held = {canonical for canonical, _ in table.to_canonical(name)}
            if not held or held - replaced:
                infos[name] = info
        folder = self.checkpoint.folder.resolve()
        for name, tensor in self.whole.items():
            info = self.tensors[tensor]
            infos[name] = replace(info, file=str(folder / info.file))
        return tensors.replace_infos(infos)

    def make_updates(self, table: WeightTable, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Update]:
        """Return canonical name → low-rank update.

        Arguments:
            table: the names of the family.
            shapes: canonical name → shape of every parameter.

        Raises:
            WeightError: unknown modules, parts that are missing or misshapen. The message lists all of them.
        """
        updates: dict[str, Update] = {}
        problems: list[str] = []
        for module, parts in self.low_rank.items():
            name = f"{module}.weight"
            found = [(canonical, source) for canonical, source in table.to_canonical(name) if canonical in shapes]
            if not found and not table.is_ignored(name) and not table.belongs_to_head(name):
                problems.append(f"unexpected  {module}, which has no weight in this model")
            for canonical, source in found:
                wrong = list(self._problems_of_module(module, parts, shapes[canonical], source))
                problems += wrong
                if not wrong:
                    updates[canonical] = self._make_update(module, parts, source)
        problems += self._problems_of_layers(table, shapes)
        _raise_all(self.checkpoint, problems)
        return updates

    def _problems_of_layers(self, table: WeightTable, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Yield layers without an update although `target_modules` names a module of all layers: a truncated adapter.

        Only a list of names without numbers means all layers, and only if no other setting excludes layers.
        """
        targets = self.config.get("target_modules")
        if not isinstance(targets, list) or any(self.config.get(key) for key in SOME_LAYERS):
            return
        ends = tuple(f".{target}" for target in targets if isinstance(target, str) and not re.search(r"\d", target))
        changed = self.changed_parameters(table)
        promised = {
            re.sub(r"\d+", "*", canonical): module
            for module in self.low_rank
            if f".{module}".endswith(ends)
            for canonical, _ in table.to_canonical(f"{module}.weight")
        }
        for canonical in shapes:
            module = promised.get(re.sub(r"\d+", "*", canonical))
            if module is not None and canonical not in changed:
                layer = "".join(re.findall(r"\d+", canonical)[:1])
                yield f"missing     what {module} has, of layer {layer}, though target_modules is {targets!r:.300}"

    def _problems_of_module(
        self, module: str, parts: Mapping[str, str], shape: tuple[int, ...], source: TensorSlice
    ) -> Iterator[str]:
        """Yield the problems of the update of one parameter of this shape, a slice of the module's weight."""
        first, second = EMBEDDING if EMBEDDING[0] in parts else LINEAR
        needed = {first, second} | ({MAGNITUDE} if self.config.get("use_dora") else set())
        yield from (f"missing     {module}.{part}" for part in sorted(needed - set(parts)))
        yield from (f"unexpected  {parts[part]}" for part in sorted(set(parts) - needed))
        if len(shape) != 2 or len(source.whole_shape(shape)) != 2:
            yield f"unexpected  {module}, whose weight is not a matrix"
            return
        rank, _ = self._rank_and_scale(module)
        (out_features, _), in_features = source.of_output_channels().whole_shape(shape), shape[1]
        if first in EMBEDDING:
            out_features, in_features = shape[1], shape[0]
        expected = {first: (rank, in_features), second: (out_features, rank), MAGNITUDE: (out_features,)}
        for part in needed & set(parts):
            actual = self.tensors[parts[part]].shape
            if actual != expected[part]:
                yield f"misshapen   {parts[part]} {list(actual)}, expected {list(expected[part])}"

    def _make_update(self, module: str, parts: Mapping[str, str], source: TensorSlice) -> Update:
        is_table = EMBEDDING[0] in parts
        first, second = EMBEDDING if is_table else LINEAR
        channels = source.of_output_channels()  # the rows of B, even if the model stores its weight (in, out)
        magnitude = channels.cut(self._read(parts[MAGNITUDE])) if MAGNITUDE in parts else None
        return Update(
            a=self._read(parts[first]),
            b=channels.cut(self._read(parts[second])),
            scale=self._rank_and_scale(module)[1],
            magnitude=magnitude,
            is_table=is_table,
        )

    def _read(self, name: str) -> Floats:
        return to_float32(self.tensors.read(name))

    def _rank_and_scale(self, module: str) -> tuple[int, float]:
        rank = _by_pattern(self.config.get("rank_pattern"), module, self.config.get("r", 8))
        alpha = _by_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8))
        return rank, alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse unknown settings, all in one error."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(f"{where}: peft_type is {kind!r}; Triform has LORA (with DoRA).")
    problems = [
        f"{key} = {value!r}, expected {' or '.join(map(repr, EXPECTED.get(key, (None,))))}"
        for key, value in config.items()
        if key not in READ | IGNORED and value not in (None, {}, [], *EXPECTED.get(key, ()))
    ]
    problems += [
        f"{key} = {config[key]!r}, expected true or false"
        for key in ("use_rslora", "use_dora")
        if not isinstance(config.get(key), bool | None)
    ]
    problems += [problem for key in ("r", "lora_alpha") for problem in _problems_of_number(key, config.get(key, 8))]
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict):
            problems.append(f"{key} = {pattern!r}, expected an object")
            continue
        for expression, value in pattern.items():
            problems += _problems_of_number(f"{key}: {expression}", value)
            try:
                re.compile(_at_end(expression))
            except (re.error, OverflowError, RecursionError) as error:
                problems.append(f"{key}: {expression} is not a regular expression: {error}")
    if problems:
        raise UnsupportedModelError(f"{where}: Triform cannot use this adapter:\n  " + "\n  ".join(problems))


def _problems_of_number(key: str, value: Any) -> list[str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and MIN_NUMBER < value < MAX_NUMBER
    return [] if fits else [f"{key} = {value!r:.300}, expected a number above 0 and below {MAX_NUMBER:g}"]


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """Return the value of the first pattern, an expression for the end of a name, that fits `module`."""
    for pattern, value in (patterns or {}).items():
        if re.match(_at_end(pattern), module):
            return value
    return default


def _at_end(expression: str) -> str:
    """Return an expression for names whose last parts, between dots, fit `expression`."""
    return rf"(.*\.)?({expression})$"


def _raise_all(checkpoint: Checkpoint, problems: list[str]) -> None:
    if problems:
        raise WeightError(
            f"The adapter {checkpoint.source} does not fit the model; {len(set(problems))} problem(s):\n  "
            + "\n  ".join(sorted(set(problems)))
            + "\nWas it trained on this model, and does its config belong to its weights?"
        )
