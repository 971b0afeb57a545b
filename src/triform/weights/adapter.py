"""LoRA adapters in PEFT's layout: low-rank updates of weights, and replacements of whole tensors.

An adapter uses the tensor names of its base model, so the weight table of the family gives the parameters. The update
of a fused tensor is cut like the tensor, one part for each parameter. Updates are merged while parameters are loaded:
W + scale·B·A, computed in float32 (Hu et al. 2021, arXiv:2106.09685, section 4.1).
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from triform.engines import Floats, to_float32
from triform.errors import AdapterWarning, ModelNotFoundError, WeightError
from triform.hub import ADAPTER, Checkpoint
from triform.weights.adapter_config import AdapterConfig
from triform.weights.slices import TensorSlice
from triform.weights.table import WeightTable
from triform.weights.tensors import FORMATS, TensorInfo, Tensors, open_tensors
from triform.weights.updates import BiasUpdate, LowRankUpdate, RowUpdate, Update

Check = Callable[[tuple[int, ...], TensorSlice], Iterator[str]]
"""(shape of the parameter, slice of the model's tensor) → problems."""
Make = Callable[[TensorSlice], Update]

PREFIX = "base_model.model."
"""The prefix of the model's names in the files."""
LINEAR = ("lora_A", "lora_B")
"""A (r, in) and B (out, r)."""
EMBEDDING = ("lora_embedding_A", "lora_embedding_B")
"""A (r, rows) and B (D, r) of an embedding."""
MAGNITUDE = "lora_magnitude_vector"
"""DoRA's magnitudes (out,)."""
BIAS = ".lora_B.bias"
"""The end of the name of B's bias (out,)."""
ROWS = ".token_adapter.trainable_tokens_delta"
"""The end of the name of new rows (rows, D) of an embedding."""
PARTS = "|".join((*LINEAR, *EMBEDDING, MAGNITUDE))
LOW_RANK = rf"(?P<module>.+)\.(?P<part>{PARTS})(\.weight)?"
"""Names of tensors that update the weight of a module."""
BASE = ".base_layer."
"""A part of the name of a base model's own tensor, which PEFT writes for an embedding with a larger vocabulary."""
WHOLE = r"(?P<module>.+?)(\.token_adapter)?(\.base_layer|\.modules_to_save)?\.(?P<last>weight|bias)"
"""Names of tensors that replace a tensor of a module: biases, heads, embeddings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """The files of an adapter: low-rank updates and whole tensors."""

    checkpoint: Checkpoint
    config: AdapterConfig
    tensors: Tensors
    low_rank: dict[str, dict[str, str]] = field(default_factory=dict)
    """Module of the model → part, such as `lora_A` → name of the adapter's tensor."""
    biases: dict[str, str] = field(default_factory=dict)
    """Module of the model → name of the adapter's tensor that changes the bias."""
    rows: dict[str, str] = field(default_factory=dict)
    """Embedding of the model → name of the adapter's tensor with new rows."""
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
        config = AdapterConfig.of_checkpoint(checkpoint)
        adapter = cls(checkpoint=checkpoint, config=config, tensors=open_tensors(checkpoint, ADAPTER))
        problems = [problem for name in adapter.tensors for problem in adapter._sort(name)]
        problems += [
            f"unexpected  {module}, which {ADAPTER.config} excludes by target_modules or the layers"
            for module in adapter.low_rank
            if not config.is_target(module)
        ]
        _raise_all(checkpoint, problems)
        return adapter

    def _sort(self, name: str) -> Iterator[str]:
        own, info = name.removeprefix(PREFIX), self.tensors[name]
        low_rank, whole = re.fullmatch(LOW_RANK, own), re.fullmatch(WHOLE, own)
        if info.format is None:
            yield f"dtype       {name} {info.dtype}, expected one of {', '.join(FORMATS)}"
        elif own.endswith(BIAS) and self.config.has_bias:
            self.biases[own.removesuffix(BIAS)] = name
        elif own.endswith(ROWS):
            self.rows[own.removesuffix(ROWS)] = name
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
        named = self.config.base
        is_hub_id = named is not None and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", named)
        if base.revision is not None and is_hub_id and named != base.source:
            warnings.warn(
                f"The adapter {self.checkpoint.source} was trained on {named}, not on {base.source}.",
                AdapterWarning,
                stacklevel=2,
            )

    def changed_parameters(self, table: WeightTable) -> set[str]:
        """Return the canonical names of all updated or replaced parameters."""
        names = [*self.whole, *(name for name, _, _ in self._changes())]
        return {canonical for name in names for canonical, _ in table.to_canonical(name)}

    def separates(self, table: WeightTable, word: str, head: str) -> bool:
        """Return whether the adapter changes a tied word embedding and a tied head in different ways.

        New rows of the word embedding belong to both, as in PEFT.
        """
        with_rows = {f"{module}.weight" for module in self.rows}
        changed = {
            (canonical, name in with_rows)
            for name in (*self.whole, *(name for name, _, _ in self._changes()))
            for canonical, _ in table.to_canonical(name)
        }
        return bool(changed & {(word, False), (head, False), (head, True)})

    def base_tensor(self, table: WeightTable, parameter: str) -> TensorInfo | None:
        """Return the tensor of a base model that the adapter was trained on, if the adapter brings the tensor."""
        for name, tensor in self.whole.items():
            if BASE in tensor and any(canonical == parameter for canonical, _ in table.to_canonical(name)):
                return self._info(tensor)
        return None

    def _info(self, tensor: str) -> TensorInfo:
        """Return the entry of a tensor, with the full path of the file."""
        info = self.tensors[tensor]
        return info._replace(file=str(self.checkpoint.folder.resolve() / info.file))

    def count_rows(self, table: WeightTable, *parameters: str) -> int | None:
        """Return the rows of the adapter's tensor that replaces one of the parameters; None without such a tensor."""
        for name, tensor in self.whole.items():
            shape = self.tensors[tensor].shape
            if shape and any(canonical in parameters for canonical, _ in table.to_canonical(name)):
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
        for name, tensor in self.whole.items():
            infos[name] = self._info(tensor)
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
        for name, check, make in self._changes():
            found = [(canonical, source) for canonical, source in table.to_canonical(name) if canonical in shapes]
            if not found and not table.is_ignored(name) and not table.belongs_to_head(name):
                problems.append(f"unexpected  a change of {name}, which this model does not have")
            for canonical, source in found:
                wrong = list(check(shapes[canonical], source))
                problems += wrong
                if not wrong:
                    updates[canonical] = make(source)
        problems += self._problems_of_layers(table, shapes)
        _raise_all(self.checkpoint, problems)
        return updates

    def _changes(self) -> Iterator[tuple[str, Check, Make]]:
        """Yield (tensor of the model, check, maker) of each update."""
        for module, parts in self.low_rank.items():
            check, make = partial(self._problems_of_module, module, parts), partial(self._make_update, module, parts)
            yield f"{module}.weight", check, make
        for module, name in self.biases.items():
            yield f"{module}.bias", partial(self._problems_of_bias, name), partial(self._bias_update, module, name)
        for module, name in self.rows.items():
            yield f"{module}.weight", partial(self._problems_of_rows, module, name), partial(self._row_update, module)

    def _problems_of_layers(self, table: WeightTable, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Yield layers without an update of a module that `target_modules` names: the adapter is truncated."""
        targets = self.config.modules_of_all_layers()
        ends = tuple(f".{target}" for target in targets)
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
        needed = {first, second} | ({MAGNITUDE} if self.config.use_dora else set())
        yield from (f"missing     {module}.{part}" for part in sorted(needed - set(parts)))
        yield from (f"unexpected  {parts[part]}" for part in sorted(set(parts) - needed))
        if len(shape) != 2 or len(source.whole_shape(shape)) != 2:
            yield f"unexpected  {module}, whose weight is not a matrix"
            return
        rank, _ = self.config.rank_and_scale(module)
        (out_features, _), in_features = source.of_output_channels().whole_shape(shape), shape[1]
        if first in EMBEDDING:
            out_features, in_features = shape[1], shape[0]
        expected = {first: (rank, in_features), second: (out_features, rank), MAGNITUDE: (out_features,)}
        for part in needed & set(parts):
            actual = self.tensors[parts[part]].shape
            if actual != expected[part]:
                yield f"misshapen   {parts[part]} {list(actual)}, expected {list(expected[part])}"

    def _make_update(self, module: str, parts: Mapping[str, str], source: TensorSlice) -> LowRankUpdate:
        is_table = EMBEDDING[0] in parts
        first, second = EMBEDDING if is_table else LINEAR
        channels = source.of_output_channels()  # the rows of B, even if the model stores its weight (in, out)
        magnitude = channels.cut(self._read(parts[MAGNITUDE])) if MAGNITUDE in parts else None
        return LowRankUpdate(
            a=self._read(parts[first]),
            b=channels.cut(self._read(parts[second])),
            scale=self.config.rank_and_scale(module)[1],
            magnitude=magnitude,
            is_table=is_table,
        )

    def _problems_of_bias(self, name: str, shape: tuple[int, ...], source: TensorSlice) -> Iterator[str]:
        expected, actual = source.whole_shape(shape), self.tensors[name].shape
        if actual != expected:
            yield f"misshapen   {name} {list(actual)}, expected {list(expected)}"

    def _bias_update(self, module: str, name: str, source: TensorSlice) -> BiasUpdate:
        return BiasUpdate(b=source.cut(self._read(name)), scale=self.config.rank_and_scale(module)[1])

    def _problems_of_rows(self, module: str, name: str, shape: tuple[int, ...], source: TensorSlice) -> Iterator[str]:
        ids, actual = self._ids(module), self.tensors[name].shape
        if actual != (len(ids), shape[-1]):
            yield f"misshapen   {name} {list(actual)}, expected {[len(ids), shape[-1]]} by trainable_token_indices"
        if max(ids, default=0) >= shape[0]:
            yield (
                f"unexpected  row {max(ids)} of {module}, which has {shape[0]}. Save the base model with its larger "
                "vocabulary, and name that model"
            )

    def _row_update(self, module: str, source: TensorSlice) -> RowUpdate:
        return RowUpdate(ids=self._ids(module), rows=self._read(self.rows[module]))

    def _ids(self, module: str) -> tuple[int, ...]:
        """Return the rows of a module; a tied table that the config does not name has the rows of the other one."""
        rows = self.config.token_rows
        named = [ids for name, ids in rows.items() if f".{module}".endswith(f".{name}")]
        return next(iter(named or (rows.values() if len(rows) == 1 else [])), ())

    def _read(self, name: str) -> Floats:
        return to_float32(self.tensors.read(name))


def _raise_all(checkpoint: Checkpoint, problems: list[str]) -> None:
    if problems:
        raise WeightError(
            f"The adapter {checkpoint.source} does not fit the model; {len(set(problems))} problem(s):\n  "
            + "\n  ".join(sorted(set(problems)))
            + "\nWas it trained on this model, and does its config belong to its weights?"
        )
