"""A vector for a text, as sentence-transformers makes it: pooled, and normalised where the model says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.engines import Spans
from triform.errors import InputError, UnsupportedModelError
from triform.families import Config
from triform.hub import Checkpoint
from triform.inputs import Batch, Tokenizer
from triform.model import Model
from triform.tasks.task import Options, Task, option

Vector = NDArray[np.float32]

POOLINGS = {
    "cls": spec.Pooling.FIRST,
    "max": spec.Pooling.MAX,
    "mean": spec.Pooling.MEAN,
    "mean_sqrt_len_tokens": spec.Pooling.MEAN_SQRT_LENGTH,
    "weightedmean": spec.Pooling.WEIGHTED_MEAN,
    "lasttoken": spec.Pooling.LAST,
}
"""As 1_Pooling/config.json names them; several are concatenated in this order."""

OLDER_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What sentence-transformers' files say."""

    poolings: tuple[spec.Pooling, ...] = (spec.Pooling.MEAN,)
    """Mean, where a model brings no modules.json."""
    pools_prompt: bool = True
    """Whether the tokens of a prompt are pooled with those of the text."""
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompts: dict[str, str]
    default_prompt: str | None = None

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "Recipe":
        """Read modules.json and the files it points to.

        Raises:
            UnsupportedModelError: a module or a pooling that Triform does not have.
        """
        settings: dict[str, Any] = {"prompts": {}}
        if checkpoint.has("config_sentence_transformers.json"):
            own = Config.of_file(checkpoint, "config_sentence_transformers.json")
            settings = {"prompts": own.texts("prompts"), "default_prompt": own.optional_string("default_prompt_name")}
        if checkpoint.has("sentence_bert_config.json"):
            own = Config.of_file(checkpoint, "sentence_bert_config.json")
            length, lowercase = own.optional_integer("max_seq_length"), own.boolean("do_lower_case", False)
            settings |= {"max_length": length, "lowercase": lowercase}
        for module in _read_modules(checkpoint):
            match module.string("type").rsplit(".", 1)[-1]:
                case "Transformer":
                    pass
                case "Pooling":
                    settings |= _read_pooling(checkpoint, module.string("path"))
                case "Normalize":
                    settings["normalize"] = True
                case other:
                    raise UnsupportedModelError(
                        f"{checkpoint.folder / 'modules.json'}: module {other} is not supported; "
                        "Triform has Transformer, Pooling and Normalize."
                    )
        return cls(**settings)


def _read_modules(checkpoint: Checkpoint) -> list[Config]:
    if not checkpoint.has("modules.json"):
        return []
    modules, where = checkpoint.read_json("modules.json"), f"{checkpoint.folder / 'modules.json'}"
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnsupportedModelError(f"{where}: expected a list of modules, each with type and path.")
    return [Config(module, where) for module in modules]


def _read_pooling(checkpoint: Checkpoint, path: str) -> dict[str, Any]:
    name = f"{path}/config.json"
    config = Config.of_file(checkpoint, name)
    older = tuple(new for old, new in OLDER_NAMES.items() if config.boolean(old, False)) or ("mean",)
    modes = config.one_or_more_strings("pooling_mode", older)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown:
        raise UnsupportedModelError(
            f"{checkpoint.folder / name}: pooling {', '.join(unknown)} is not supported; "
            f"Triform has {', '.join(POOLINGS)}."
        )
    return {
        "poolings": tuple(POOLINGS[mode] for mode in modes),
        "pools_prompt": config.boolean("include_prompt", True),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptOptions(Options):
    """Options of whatever embeds sentences."""

    prompt: str | None = option(None, "Text to put before each input, as some models were trained with.")
    prompt_name: str | None = option(None, "One of the prompts that the model brings, by its name.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceEmbeddingOptions(PromptOptions):
    """Options of sentence-embedding."""

    normalize: bool | None = option(None, "Scale vectors to length 1; by default as the model says.")


class SentenceEmbedding(Task[Vector, Vector]):
    """Answers a float32 vector for a text, an array (N, hidden) for a list of N."""

    name = "sentence-embedding"
    aliases = ("embed",)
    summary = "A vector for each text; near in meaning is near in angle."
    example = "A cat sat on the mat."
    options_type = SentenceEmbeddingOptions
    head = None
    forms = (spec.Encoder, spec.Decoder)

    def __init__(self, model: Model, tokenizer: Tokenizer, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self.recipe = Recipe.read(model.checkpoint)

    def preprocess(self, inputs: Sequence[str], options: PromptOptions) -> Batch:
        for text in inputs:
            if not isinstance(text, str):
                raise InputError(f"{self.name}: expected a text, got {text!r}.")
        texts = [self._prompt(options) + text for text in inputs]
        if self.recipe.lowercase:
            texts = [text.lower() for text in texts]
        return self.encode(texts, options, max_length=self.recipe.max_length)

    def forward(self, batch: Batch, options: SentenceEmbeddingOptions) -> Vector:
        engine, vectors = self.model.engine, self.pool(batch, options)
        normalize = self.recipe.normalize if options.normalize is None else options.normalize
        return engine.to_numpy(engine.normalize(engine.asarray(vectors))) if normalize else vectors

    def postprocess(self, batch: Batch, tensors: Vector, options: SentenceEmbeddingOptions) -> list[Vector]:
        return list(tensors)

    def many(self, answers: list[Vector]) -> Vector:
        width = self.model.spec.input_stack.embedding.hidden_size * len(self.recipe.poolings)
        return np.array(answers, np.float32).reshape(-1, width)

    def pool(self, batch: Batch, options: PromptOptions) -> Vector:
        """(B, width) the vectors of the texts, not normalised."""
        engine, states = self.model.engine, self.model(batch).last_hidden_state
        spans = batch.spans
        if not self.recipe.pools_prompt:
            # Never the whole sequence: an empty text keeps its last token.
            begins = np.minimum(spans.begins + self._prompt_length(options), spans.ends - 1)
            spans = Spans(begins, spans.ends)
        vectors = [engine.pool(states, spans, pooling) for pooling in self.recipe.poolings]
        joined: Vector = np.concatenate([engine.to_numpy(v) for v in vectors], axis=-1)
        return joined

    def _prompt(self, options: PromptOptions) -> str:
        if options.prompt is not None:
            return options.prompt
        name = options.prompt_name or self.recipe.default_prompt
        if name is None:
            return ""
        if name not in self.recipe.prompts:
            known = ", ".join(self.recipe.prompts) or "none"
            raise InputError(f"prompt_name={name!r}: the model brings these prompts: {known}.")
        return self.recipe.prompts[name]

    def _prompt_length(self, options: PromptOptions) -> int:
        """Rows that a prompt takes, the leading special token included, without the closing one."""
        prompt = self._prompt(options)
        if not prompt:
            return 0
        encoded = self.tokenizer.encode([prompt])[0]
        return len(encoded.ids) - (encoded.sources[-1] is None)
