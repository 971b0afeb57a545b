"""The files of sentence-transformers, which say how the last hidden states become one vector for a text."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from triform import spec
from triform.engines import Array, Engine, ParameterRole
from triform.errors import UnsupportedModelError, WeightError
from triform.families import Config
from triform.hub import SENTENCE_MODULES, Checkpoint
from triform.networks.layers.linear import Linear
from triform.networks.scope import Scope
from triform.weights import ParameterLoader, Rename, WeightTable, match_tensors, open_tensors

POOLINGS = {
    "cls": spec.Pooling.FIRST,
    "max": spec.Pooling.MAX,
    "mean": spec.Pooling.MEAN,
    "mean_sqrt_len_tokens": spec.Pooling.MEAN_SQRT_LENGTH,
    "weightedmean": spec.Pooling.WEIGHTED_MEAN,
    "lasttoken": spec.Pooling.LAST,
}
"""Names in 1_Pooling/config.json; several poolings are concatenated in this order."""

OLDER_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

ACTIVATIONS = {
    "Identity": None,
    "Tanh": spec.Activation.TANH,
    "ReLU": spec.Activation.RELU,
    "GELU": spec.Activation.GELU,
    "SiLU": spec.Activation.SILU,
}
"""The last part of the name of a torch module → the activation."""

TENSORS = WeightTable(rules=(Rename("linear.*", "linear.*"), Rename("residual.weight", "residual.weight")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """activation(x·weightᵀ + bias), plus an optional residual."""

    folder: str
    """The folder of the weights, relative to the model's folder."""
    in_features: int
    out_features: int
    bias: bool
    activation: spec.Activation | None
    residual: bool


class Normalize:
    """Vectors scaled to length 1."""


Module = Dense | Normalize


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The poolings, modules and prompts of a sentence-transformers model."""

    poolings: tuple[spec.Pooling, ...] = (spec.Pooling.MEAN,)
    """The mean for a model without modules.json."""
    pools_prompt: bool = True
    """Whether the tokens of a prompt are pooled with the text."""
    modules: tuple[Module, ...] = ()
    """The modules behind the pooling, in order."""
    truncate_dim: int | None = None
    """The number of leading values that are kept of each vector."""
    max_length: int | None = None
    lowercase: bool = False
    prompts: Mapping[str, str]
    default_prompt: str | None = None

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "Recipe":
        """Read modules.json and the files it points to.

        Raises:
            UnsupportedModelError: a module, a pooling or a setting that Triform does not have.
        """
        checkpoint = checkpoint.having(SENTENCE_MODULES)
        settings: dict[str, Any] = {"prompts": {}}
        if checkpoint.has("config_sentence_transformers.json"):
            own = Config.of_file(checkpoint, "config_sentence_transformers.json")
            settings["prompts"] = own.texts("prompts")
            settings["default_prompt"] = own.optional_string("default_prompt_name")
            settings["truncate_dim"] = own.optional_integer("truncate_dim")
        if checkpoint.has("sentence_bert_config.json"):
            own = Config.of_file(checkpoint, "sentence_bert_config.json")
            settings["max_length"] = own.optional_integer("max_seq_length")
            settings["lowercase"] = own.boolean("do_lower_case", False)
        if checkpoint.has("modules.json"):
            settings |= _read_modules(checkpoint)
        return cls(**settings)


def _read_modules(checkpoint: Checkpoint) -> dict[str, Any]:
    named, where = checkpoint.read_json("modules.json"), f"{checkpoint.folder / 'modules.json'}"
    if not isinstance(named, list) or not all(isinstance(module, dict) for module in named):
        raise UnsupportedModelError(f"{where}: expected a list of modules, each with type and path.")
    settings: dict[str, Any] = {}
    modules: list[Module] = []
    for module in (Config(module, where) for module in named):
        kind, folder = module.string("type").rsplit(".", 1)[-1], module.string("path")
        is_misplaced = (kind == "Pooling") == ("poolings" in settings)
        match kind:
            case "Transformer" | "Dropout":
                pass
            case "Pooling" | "Dense" | "Normalize" if is_misplaced:
                raise UnsupportedModelError(
                    f"{where}: Triform does not support {kind} where it stands; "
                    "expected Transformer, one Pooling, and then any number of Dense and Normalize."
                )
            case "Pooling":
                settings |= _read_pooling(checkpoint, folder)
            case "Dense":
                modules.append(_read_dense(checkpoint, folder))
            case "Normalize":
                modules.append(_read_normalize(checkpoint, folder))
            case other:
                raise UnsupportedModelError(
                    f"{where}: module {other} is not supported; "
                    "Triform has Transformer, Pooling, Dense, Normalize and Dropout."
                )
    if "poolings" not in settings:
        raise UnsupportedModelError(f"{where}: no module is a Pooling, so that nothing makes one vector of a text's.")
    return {**settings, "modules": tuple(modules)}


def _read_pooling(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    config = Config.of_file(checkpoint, f"{folder}/config.json")
    older = tuple(new for old, new in OLDER_NAMES.items() if config.boolean(old, False)) or ("mean",)
    modes = config.one_or_more_strings("pooling_mode", older)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown:
        raise UnsupportedModelError(
            f"{config.where}: pooling {', '.join(unknown)} is not supported; Triform has {', '.join(POOLINGS)}."
        )
    return {
        "poolings": tuple(POOLINGS[mode] for mode in modes),
        "pools_prompt": config.boolean("include_prompt", True),
    }


def _read_dense(checkpoint: Checkpoint, folder: str) -> Dense:
    config = _config_of(checkpoint, folder)
    name = config.string("activation_function", "torch.nn.modules.activation.Tanh")
    if name.rsplit(".", 1)[-1] not in ACTIVATIONS:
        config.refuse("activation_function", f"one of torch's modules {', '.join(ACTIVATIONS)}")
    dense = Dense(
        folder=folder,
        in_features=config.integer("in_features"),
        out_features=config.integer("out_features"),
        bias=config.boolean("bias", True),
        activation=ACTIVATIONS[name.rsplit(".", 1)[-1]],
        residual=config.boolean("use_residual", False),
    )
    config.close()
    return dense


def _read_normalize(checkpoint: Checkpoint, folder: str) -> Normalize:
    if checkpoint.has(f"{folder}/config.json"):  # older versions write none
        _config_of(checkpoint, folder).close()
    return Normalize()


def _config_of(checkpoint: Checkpoint, folder: str) -> Config:
    """Read the settings of a module behind the pooling, and check that its input is the text's vector."""
    config = Config.of_file(checkpoint, f"{folder}/config.json")
    config.expect("module_input_name", "sentence_embedding")
    config.expect("module_output_name", "sentence_embedding")
    return config


class DenseLayer:
    """A dense module with its weights."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint, dense: Dense) -> None:
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": (dense.out_features, dense.in_features)}
        if dense.bias:
            shapes["linear.bias"] = shapes["linear.weight"][:1]
        # Where input and output are of one size, the residual is the input itself.
        projects = dense.residual and dense.in_features != dense.out_features
        if projects:
            shapes["residual.weight"] = shapes["linear.weight"]
        own = replace(checkpoint, folder=checkpoint.folder / dense.folder)
        tensors = open_tensors(own)
        try:
            assignment = match_tensors(shapes, TENSORS, tensors)
        except WeightError as error:
            raise WeightError(f"{own.folder}: {error}") from error
        roles = {
            name: ParameterRole.LINEAR if len(shape) == 2 else ParameterRole.VECTOR for name, shape in shapes.items()
        }
        scope = Scope(engine, ParameterLoader(engine, tensors, assignment.sources, roles, "auto"))
        sizes = (dense.in_features, dense.out_features)
        self._dense = dense
        self._linear = Linear(scope / "linear", *sizes, bias=dense.bias)
        self._residual = Linear(scope / "residual", *sizes, bias=False) if projects else None

    def __call__(self, x: Array) -> Array:
        """(B, in) → (B, out)."""
        residual = x if self._dense.residual else None
        if self._residual is not None:
            residual = self._residual(x)
        return self._linear(x, activation=self._dense.activation, residual=residual)
