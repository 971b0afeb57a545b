"""Loading: the way from the origin of a model to a model on an engine.

    origin → config → spec → table and tensors → assignment → parameters → network → Model

A model has one of three origins: a checkpoint, a checkpoint that gets a new head, or a config.json without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triform import families, spec
from triform.engines import Engine, create_engine
from triform.errors import UnsupportedModelError
from triform.families.kit.adapted import adapt_config, find_architecture
from triform.hub import ADAPTER, Checkpoint, find_checkpoint
from triform.model.blueprint import Blueprint
from triform.model.files import find_files, warn_of_generation_config
from triform.model.model import Model
from triform.model.new_head import NewHead
from triform.model.tied_head import lay_over, tie, untie
from triform.networks import Declaration, build, declare
from triform.weights import (
    Assignment,
    PackedCache,
    ParameterLoader,
    Tensors,
    WeightTable,
    combine_quantized,
    match_tensors,
    open_tensors,
    read_quantized_format,
)

if TYPE_CHECKING:
    from triform.weights.adapter import Adapter

PROJECTIONS = ("classification_head.", "span_head.")
"""Prefixes of the projections to labels. A new head has other labels, so it never takes them over."""


class Origin(NamedTuple):
    """Origin of a model, and the head to give the model."""

    checkpoint: Checkpoint
    has_weights: bool = True
    """Whether the checkpoint has weights, or a config alone."""
    with_head: bool = True
    """Whether the model has a head, or is the backbone alone."""
    new_head: NewHead | None = None
    """Head instead of the head in config.json."""
    head: type[spec.Head] | None = None
    """Head of a model whose config.json names no architecture."""
    adapter: Adapter | None = None
    """LoRA adapter to merge into the weights."""

    @property
    def is_complete(self) -> bool:
        """True if every parameter must be in the checkpoint; otherwise new parameters are initialized."""
        return self.has_weights and self.new_head is None


def load(
    model: str | Path | Checkpoint,
    *,
    engine: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    adapter: str | Path | None = None,
    with_head: bool = True,
    head: type[spec.Head] | None = None,
) -> Model:
    """Load a model from a local folder or from the Hub.

    Arguments:
        model: a folder in the Hugging Face layout, a Hub id such as org/name, or a checkpoint that was found.
        engine: "auto" takes the fastest that can be used; or one by name.
        dtype: how to hold the weights: "auto" as they are stored, or float32, float16, bfloat16; int8 or int4 for the
            weights of linears, the rest as with "auto".
        revision: branch, tag or commit on the Hub.
        adapter: a folder or Hub id of a LoRA adapter in PEFT's layout, to be merged into the weights. The weights that
            it changes are held in float32 with dtype "auto", and with another are rounded once, after merging.
        with_head: whether to load the head that config.json, or the adapter's task, names, or the backbone alone.
        head: the head of a model whose config.json names no architecture; without it such a model is a backbone.

    Raises:
        ModelError: the model cannot be found, is not supported, or config and weights do not fit.
        EngineError: an unknown engine, or a dtype that the engine does not have.
    """
    chosen = create_engine(engine)
    blueprint = read_blueprint(model, engine=chosen, revision=revision, adapter=adapter, with_head=with_head, head=head)
    roles = {name: parameter.role for name, parameter in blueprint.declared.items()}
    sources = blueprint.assignment.sources
    loader = ParameterLoader(chosen, blueprint.tensors, sources, roles, dtype, blueprint.updates)
    if (cache := PackedCache.from_environment()) is not None:
        loader.use_packed(cache, blueprint.checkpoint.source)
    network = build(blueprint.spec, chosen, loader)
    arguments = {
        **lasting_arguments(blueprint.checkpoint, model, revision, adapter),
        "engine": engine,
        "dtype": dtype,
        "with_head": with_head,
        "head": head,
    }
    return Model(blueprint, chosen, network, loader.parameters, arguments)


def lasting_arguments(
    checkpoint: Checkpoint, model: str | Path | Checkpoint, revision: str | None, adapter: str | Path | None
) -> dict[str, Any]:
    """Return the arguments that load a model again in another process and working directory.

    Arguments:
        checkpoint: the files that were found; their commit is the revision.
        model: as in `load`.
        revision: as in `load`.
        adapter: as in `load`.
    """
    if isinstance(model, Checkpoint):
        return {"model": replace(model, folder=model.folder.absolute(), report={})}
    if checkpoint.source == str(model):
        revision = checkpoint.revision  # None for a folder
    return {
        "model": _lasting(model),
        "adapter": None if adapter is None else _lasting(adapter),
        "revision": revision,
    }


def _lasting(name: str | Path) -> str | Path:
    """Make the path of a folder absolute; keep the id of a model on the Hub."""
    folder = Path(name).expanduser()
    return folder.absolute() if folder.is_dir() else name


def load_for_training(
    source: str | Path, *, new_head: NewHead | None = None, engine: str = "torch", seed: int = 0
) -> Model:
    """Load or initialize a model with gradients, in float32. Needs torch.

    Arguments:
        source: a folder or a Hub id of a checkpoint; or the path of a config.json, to begin without weights. The
            tokenizer files in its folder go with the model when it is saved.
        new_head: a head in place of the one that config.json names. Of the checkpoint's own head, parameters of the
            same name and shape are taken over, but never the projection to labels.
        engine: "torch", or "torch:DEVICE".
        seed: seed of the random numbers that new parameters begin with.

    Raises:
        InputError: an engine without gradients.
        ModelError: the model cannot be found, is not supported, or has no such head.
        EngineError: the engine cannot be used.
    """
    chosen = create_engine(engine)
    from triform.model.trainable import TrainableParameters, with_gradients

    trainer = with_gradients(chosen, engine)
    if Path(source).name == "config.json" and Path(source).is_file():
        checkpoint = Checkpoint(Path(source).parent, str(source))
        origin = Origin(checkpoint=checkpoint, has_weights=False, new_head=new_head)
    else:
        checkpoint = find_checkpoint(source)
        if checkpoint.has(ADAPTER.config):
            raise UnsupportedModelError(
                f"{source} has an adapter, which training cannot continue. Load the model with the adapter, save it, "
                "and train the saved model."
            )
        origin = Origin(checkpoint=checkpoint, new_head=new_head)
    blueprint = make_blueprint(origin, trainer)
    parameters = TrainableParameters(blueprint, trainer, seed)
    network = build(blueprint.spec, trainer, parameters)
    blueprint.tensors.unmap()  # the engine has copies
    return Model(blueprint, trainer, network, parameters.parameters)


def read_blueprint(
    model: str | Path | Checkpoint,
    *,
    engine: Engine | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    with_head: bool = True,
    head: type[spec.Head] | None = None,
) -> Blueprint:
    """Read the blueprint of a checkpoint; arguments as in `load`. No weights are read.

    Raises:
        ModelError: the model cannot be found, is not supported, or config and weights do not fit.
    """
    checkpoint, change = find_files(model, revision, adapter), None
    if checkpoint.adapter is not None:
        from triform.weights.adapter import Adapter

        change = Adapter.open(checkpoint.adapter)
    origin = Origin(checkpoint=checkpoint, with_head=with_head, head=head, adapter=change)
    return make_blueprint(origin, engine or create_engine("reference"))


def make_blueprint(origin: Origin, engine: Engine) -> Blueprint:
    """Resolve a model without reading weights: origin → config → spec → table and tensors → assignment.

    Raises:
        ModelError: the model is not supported, or config and weights do not fit.
    """
    where = str(origin.checkpoint.folder / "config.json")
    config = _config(origin, where)
    family = families.find_family(config, where)
    report = origin.checkpoint.report.setdefault("config.json", {})
    model = families.read_spec(config, where, with_head=origin.with_head, report=report)
    table = family.weights(model)
    tensors = _tensors(origin, config, where, model, table)
    model = untie(model, table, tensors, config, origin.adapter)
    table = tie(model, family.weights(model))
    declared = declare(model, engine)
    shapes = {name: parameter.shape for name, parameter in declared.items()}
    assignment = _assignment(origin, model, engine, table, tensors, shapes)
    return Blueprint(
        checkpoint=origin.checkpoint,
        config=config,
        spec=model,
        table=table,
        tensors=tensors,
        declared=declared,
        assignment=assignment,
        updates={} if origin.adapter is None else origin.adapter.make_updates(table, shapes),
    )


def _config(origin: Origin, where: str) -> Mapping[str, Any]:
    """Read config.json, changed for the new head or for the adapter's task."""
    config = origin.checkpoint.read_object("config.json")
    if origin.new_head is not None:
        return origin.new_head.put_on(config, where)
    if origin.head is not None and not config.get("architectures"):
        config = {**config, "architectures": [find_architecture(config, where, origin.head)]}
    if origin.adapter is not None:
        origin.adapter.warn_of_other_base(origin.checkpoint)
        warn_of_generation_config(origin.checkpoint)
        return adapt_config(config, where, origin.adapter, with_head=origin.with_head)
    return config


def _tensors(origin: Origin, config: Mapping[str, Any], where: str, model: spec.Model, table: WeightTable) -> Tensors:
    """Open the tensors of the checkpoint and of the adapter, by their names in the checkpoint."""
    if not origin.has_weights:
        return Tensors(origin.checkpoint.folder, {})
    tensors = open_tensors(origin.checkpoint)
    if (format := read_quantized_format(config, where)) is not None:
        tensors = combine_quantized(tensors, format)
    if origin.new_head is not None:
        # In some families the prefix of the backbone's names depends on the head, so names lose the old head's prefix.
        prefix = _backbone_prefix(origin.checkpoint, where)
        tensors = tensors.replace_infos({name.removeprefix(prefix): info for name, info in tensors.items()})
    if origin.adapter is not None:
        tensors = lay_over(model, table, tensors, origin.adapter)
    return tensors


def _backbone_prefix(checkpoint: Checkpoint, where: str) -> str:
    """Find the prefix of the backbone's names in a checkpoint, for the head named by config.json."""
    config = checkpoint.read_object("config.json")
    backbone = families.read_spec(config, where, with_head=False)
    return families.find_family(config, where).weights(backbone).prefix


def _assignment(
    origin: Origin,
    model: spec.Model,
    engine: Engine,
    table: WeightTable,
    tensors: Tensors,
    shapes: Mapping[str, tuple[int, ...]],
) -> Assignment:
    """Match tensors with parameters: with all parameters, or with all but the new ones."""
    if origin.is_complete:
        return match_tensors(shapes, table, tensors)
    known = _known_shapes(tensors, table, shapes, declare(replace(model, head=None), engine)) if tensors else {}
    # Tensors of other heads are not kept: they would not fit a backbone that is trained.
    return match_tensors(known, table, tensors)._replace(unused=(), prefix=table.prefix if model.head else "")


def _known_shapes(
    tensors: Tensors, table: WeightTable, shapes: Mapping[str, tuple[int, ...]], backbone: Mapping[str, Declaration]
) -> dict[str, tuple[int, ...]]:
    """Collect the shapes of the parameters to load below a new head: the backbone, and fitting parts of a head."""
    found = {
        canonical: source.part_shape(tensors[name].shape)
        for name in tensors
        for canonical, source in table.to_canonical(name)
        if not canonical.startswith(PROJECTIONS)
    }
    return {name: shape for name, shape in shapes.items() if name in backbone or found.get(name) == shape}
