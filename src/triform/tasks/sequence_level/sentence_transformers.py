"""The files of sentence-transformers, which say how the last hidden states become one vector for a text."""

from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from triform import spec
from triform.engines import Array, Engine, ParameterRole
from triform.errors import UnsupportedModelError, WeightError, shown
from triform.hub import SENTENCE_MODULES, Checkpoint
from triform.model import Model
from triform.networks.layers.linear import Linear
from triform.networks.scope import Scope
from triform.settings import Settings
from triform.tasks.sequence_level.sentence_settings import MODULES, ModelSettings, TransformerSettings
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
"""Class of torch → the activation."""

OWN_MODULES = "sentence_transformers.sentence_transformer.modules"
BASE_MODULES = "sentence_transformers.base.modules"
KINDS = {
    name: kind
    for kind, home in {
        "Transformer": BASE_MODULES,
        "Pooling": OWN_MODULES,
        "Dense": BASE_MODULES,
        "Normalize": BASE_MODULES,
        "Dropout": OWN_MODULES,
    }.items()
    for name in (
        f"sentence_transformers.models.{kind}",
        f"sentence_transformers.models.{kind}.{kind}",
        f"{home}.{kind}",
        f"{home}.{kind.lower()}.{kind}",
        f"{OWN_MODULES}.{kind}",
    )
} | {f"{OWN_MODULES}.normalize.Normalize": "Normalize"}
"""Every name of a class in sentence-transformers, old and new → the class."""

OUTPUT = ("last_hidden_state", "token_embeddings")
"""The output of transformers that is pooled, and its name in sentence-transformers."""

TOKENIZER_CONFIG = "tokenizer_config.json"

TENSORS = WeightTable(rules=(Rename("linear.*", "linear.*"), Rename("residual.weight", "residual.weight")))


class Dense(NamedTuple):
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
    """The Transformer, poolings, modules and prompts of a sentence-transformers model."""

    checkpoint: Checkpoint
    """The folder of modules.json."""
    path: str = ""
    """The folder of the Transformer, relative to the model's folder."""
    transformer: TransformerSettings = field(default_factory=TransformerSettings)
    settings: ModelSettings = field(default_factory=ModelSettings)
    poolings: tuple[spec.Pooling, ...] = (spec.Pooling.MEAN,)
    pools_prompt: bool = True
    """Whether the tokens of a prompt are pooled with the text."""
    modules: tuple[Module, ...] = ()
    """The modules behind the pooling, in order."""

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "Recipe":
        """Read modules.json and the files it points to, beside an adapter if it is there.

        A model without modules.json is pooled by its last token if it was made for causal language modeling, and else
        by the mean.

        Raises:
            UnsupportedModelError: a module, a pooling or a setting that Triform does not have.
        """
        checkpoint = checkpoint.having(SENTENCE_MODULES)
        if not checkpoint.has(MODULES):
            return cls(
                checkpoint=checkpoint,
                transformer=TransformerSettings.without_files(),
                poolings=(_default_pooling(checkpoint),),
            )
        settings = ModelSettings.read(checkpoint, "SentenceTransformer")
        path, modules = read_modules(checkpoint)
        transformer = TransformerSettings.read(inside(checkpoint, path), "feature-extraction", OUTPUT)
        where = str(checkpoint.folder / MODULES)
        poolings: dict[str, Any] = {}
        behind: list[Module] = []
        for kind, folder in modules:
            if (kind == "Pooling") == bool(poolings):
                raise UnsupportedModelError(
                    f"{where}: Triform does not support {kind} where it stands; "
                    "expected Transformer, one Pooling, and then any number of Dense, Normalize and Dropout."
                )
            match kind:
                case "Pooling":
                    poolings = _read_pooling(checkpoint, folder)
                case "Dense":
                    behind.append(_read_dense(checkpoint, folder))
                case "Normalize":
                    behind.append(_read_normalize(checkpoint, folder))
                case "Dropout":
                    _check_dropout(checkpoint, folder)
        if not poolings:
            raise UnsupportedModelError(
                f"{where}: no module is a Pooling, so that nothing makes one vector of a text's."
            )
        return cls(
            checkpoint=checkpoint,
            path=path,
            transformer=transformer,
            settings=settings,
            modules=tuple(behind),
            **poolings,
        )

    @classmethod
    def of_model(cls, model: Model) -> "Recipe":
        """Read the files beside the weights of a model.

        Raises:
            UnsupportedModelError: as `read`; or modules.json names the weights in another folder.
        """
        recipe = cls.read(model.checkpoint)
        if recipe.path:
            raise UnsupportedModelError(
                f"{recipe.checkpoint.folder / MODULES}: the Transformer is in {recipe.path}, and this model is not. "
                "Load the model by its task, as triform.pipeline does."
            )
        return recipe


def read_modules(checkpoint: Checkpoint) -> tuple[str, list[tuple[str, str]]]:
    """Read modules.json → the folder of the Transformer, and kind and folder of each module behind it.

    Raises:
        UnsupportedModelError: a module that Triform does not have, or a Transformer that is not the first module.
    """
    named, where = checkpoint.read_json(MODULES), str(checkpoint.folder / MODULES)
    if not isinstance(named, list) or not all(isinstance(module, dict) for module in named):
        raise UnsupportedModelError(f"{where}: expected a list of modules, each with type and path.")
    report = checkpoint.report.setdefault(MODULES, {})
    found: list[tuple[str, str]] = []
    names: list[str] = []
    for module in (Settings(module, where, report) for module in named):
        # Modules run in the order of the list, and their arguments come from the caller.
        module.ignore("idx", "kwargs")
        names.append(module.string("name"))
        kind, path = module.string("type"), module.string("path")
        if kind not in KINDS:
            raise UnsupportedModelError(
                f"{where}: module {shown(kind)} is not supported; Triform has sentence-transformers' "
                f"{', '.join(sorted(set(KINDS.values())))}, and runs no code of other packages."
            )
        if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
            module.refuse("path", "a folder inside the model's folder")
        module.close()
        found.append((KINDS[kind], path))
    if len(set(names)) < len(names):
        raise UnsupportedModelError(f"{where}: expected a name of its own for each module, got {', '.join(names)}.")
    if not found or found[0][0] != "Transformer" or any(kind == "Transformer" for kind, _ in found[1:]):
        raise UnsupportedModelError(f"{where}: expected one Transformer, as the first module.")
    return found[0][1], found[1:]


def inside(checkpoint: Checkpoint, path: str) -> Checkpoint:
    """Return the checkpoint in a folder of this one; its report is part of this one's."""
    return replace(checkpoint, folder=checkpoint.folder / path, whole=checkpoint.folder) if path else checkpoint


def _default_pooling(checkpoint: Checkpoint) -> spec.Pooling:
    config = checkpoint.read_object("config.json")
    architectures = config.get("architectures")
    named = isinstance(architectures, list) and architectures and str(architectures[0]).endswith("ForCausalLM")
    return spec.Pooling.LAST if named and config.get("is_causal", True) else spec.Pooling.MEAN


def _read_pooling(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    config = Settings.of_file(checkpoint, f"{folder}/config.json")
    # The states have the size that config.json says.
    config.ignore("embedding_dimension", "word_embedding_dimension")
    older = tuple(new for old, new in OLDER_NAMES.items() if config.boolean(old, False)) or ("mean",)
    modes = config.one_or_more_strings("pooling_mode", older)
    if not modes or not set(modes) <= set(POOLINGS):
        config.refuse("pooling_mode", f"one or more of {', '.join(POOLINGS)}")
    poolings = {
        "poolings": tuple(POOLINGS[mode] for mode in modes),
        "pools_prompt": config.boolean("include_prompt", True),
    }
    config.close()
    return poolings


def _read_dense(checkpoint: Checkpoint, folder: str) -> Dense:
    config = _config_of(checkpoint, folder)
    name = torch_class(config.string("activation_function", "torch.nn.modules.activation.Tanh"))
    if name not in ACTIVATIONS:
        config.refuse("activation_function", f"one of torch's modules {', '.join(ACTIVATIONS)}")
    dense = Dense(
        folder=folder,
        in_features=config.integer("in_features"),
        out_features=config.integer("out_features"),
        bias=config.boolean("bias", True),
        activation=ACTIVATIONS[name],
        residual=config.boolean("use_residual", False),
    )
    config.close()
    return dense


def _read_normalize(checkpoint: Checkpoint, folder: str) -> Normalize:
    if checkpoint.has(f"{folder}/config.json"):  # older versions write none
        _config_of(checkpoint, folder).close()
    return Normalize()


def _check_dropout(checkpoint: Checkpoint, folder: str) -> None:
    if checkpoint.has(f"{folder}/config.json"):
        config = Settings.of_file(checkpoint, f"{folder}/config.json")
        config.ignore("dropout")  # of the training
        config.close()


def _config_of(checkpoint: Checkpoint, folder: str) -> Settings:
    """Read the settings of a module behind the pooling, and check that its input is the text's vector."""
    config = Settings.of_file(checkpoint, f"{folder}/config.json")
    config.expect("module_input_name", "sentence_embedding")
    config.expect("module_output_name", "sentence_embedding")
    return config


def torch_class(path: str) -> str:
    """Return the class of a dotted name of an activation in torch, or the whole name of anything else."""
    package, _, name = path.rpartition(".")
    own = "torch.nn.modules.linear" if name == "Identity" else "torch.nn.modules.activation"
    return name if package in ("torch.nn", "torch.nn.modules", own) else path


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
