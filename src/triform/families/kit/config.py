"""Typed reads of config.json: every key must be read, expected or ignored."""

from collections.abc import Mapping
from typing import Any, NoReturn, Self

from triform.errors import UnsupportedModelError
from triform.hub import Checkpoint
from triform.spec import Activation, LinearScaling, Llama3Scaling, Problem, Rotary

ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "tanh": Activation.TANH,
}

BOOKKEEPING = frozenset(
    """
    model_type _name_or_path transformers_version torch_dtype dtype tokenizer_class _commit_hash use_cache
    output_attentions output_hidden_states return_dict torchscript use_bfloat16 tf_legacy_loss
    _attn_implementation_autoset attn_implementation chunk_size_feed_forward finetuning_task output_past _num_labels
    sbert_ce_default_activation_function sentence_transformers transformers.js_config unsloth_version
    quantization_config task_specific_params prefix
    """.split()
)
"""Keys that do not concern a spec. `weights/` reads `quantization_config`, and translation the last two."""

TRAINING = frozenset(
    """
    initializer_range initializer_factor gradient_checkpointing pretraining_tp hidden_dropout_prob
    attention_probs_dropout_prob attention_dropout dropout_rate classifier_dropout dropout activation_dropout
    encoder_layerdrop decoder_layerdrop layerdrop init_std classif_dropout embd_pdrop resid_pdrop attn_pdrop
    qa_dropout seq_classif_dropout
    """.split()
)

GENERATION = frozenset(
    """
    bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id max_length min_length do_sample
    early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
    repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
    remove_invalid_values suppress_tokens exponential_decay_length_penalty begin_suppress_tokens
    """.split()
)
"""Keys of older configs that `generation/` reads."""

MAX_SIZE = 2**31 - 1
"""The largest number in a config. Arrays need no other limit, since shapes are compared with the checkpoint's."""

MAX_LAYERS = 1000
"""Wang et al. 2022, "DeepNet: Scaling Transformers to 1,000 Layers": no published model is deeper."""

MAX_LABELS = 100_000

MAX_FLOAT32 = 3.4e38

_REQUIRED: Any = object()


class Config:
    """Typed reads of a config.json. A null counts as absent, as in the reference implementation."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = values
        self._known: set[str] = set()

    @classmethod
    def of_file(cls, checkpoint: Checkpoint, name: str) -> Self:
        """Read a JSON file with an object."""
        return cls(checkpoint.read_object(name), str(checkpoint.folder / name))

    def _read(self, key: str, default: Any, expected: str, *types: type) -> Any:
        self._known.add(key)
        value = self._values.get(key)
        if value is None:
            if default is _REQUIRED:
                raise UnsupportedModelError(f"{self.where}: {key} is missing; expected {expected}.")
            return default
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.refuse(key, expected)
        return value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise UnsupportedModelError for the value of a key.

        Arguments:
            key: the key.
            expected: the values that are allowed, for the message.
        """
        raise UnsupportedModelError(f"{self.where}: {key} is {self._values.get(key)!r:.300}; expected {expected}.")

    def integer(self, key: str, default: int = _REQUIRED, *, minimum: int = 1, maximum: int = MAX_SIZE) -> int:
        """Read a whole number from `minimum` to `maximum`."""
        expected = f"a whole number of at least {minimum} and at most {maximum}"
        value: int = self._read(key, default, expected, int)
        if not minimum <= value <= maximum:
            self.refuse(key, expected)
        return value

    def num_layers(self, key: str, default: int = _REQUIRED) -> int:
        """Read a number of blocks. The limit matters, since blocks become objects before shapes can be compared."""
        return self.integer(key, default, maximum=MAX_LAYERS)

    def default(self, key: str, value: Any) -> None:
        """Set the value of an absent key."""
        if self._values.get(key) is None:
            self._values = {**self._values, key: value}

    def mentions(self, key: str) -> bool:
        """Return whether the key is present, even with a null."""
        return key in self._values

    def optional_integer(self, key: str) -> int | None:
        """Read a whole number of at least 1; None for an absent key."""
        self._known.add(key)
        return None if self._values.get(key) is None else self.integer(key)

    def quotient(self, key: str, divisor: str) -> int:
        """Read two whole numbers and return their quotient. The quotient must be whole."""
        dividend, by = self.integer(key), self.integer(divisor)
        if dividend % by:
            self.refuse(key, f"a multiple of {divisor}, which is {by}")
        return dividend // by

    def key_value_heads(self, num_attention_heads: int) -> int:
        """Read `num_key_value_heads`, by default the number of query heads."""
        value = self.integer("num_key_value_heads", num_attention_heads)
        if num_attention_heads % value:
            self.refuse("num_key_value_heads", f"a divisor of num_attention_heads, which is {num_attention_heads}")
        return value

    def number(self, key: str, default: float = _REQUIRED) -> float:
        """Read a number above 0, within the range of float32."""
        expected = f"a number above 0 and below {MAX_FLOAT32:g}"
        value = self._read(key, default, expected, int, float)
        if not 0 < value < MAX_FLOAT32:
            self.refuse(key, expected)
        return float(value)

    def rate(self, key: str, default: float = 0.0) -> float:
        """Read a rate of dropout, at least 0 and below 1."""
        expected = "a number of at least 0 and below 1"
        value = self._read(key, default, expected, int, float)
        if not 0 <= value < 1:
            self.refuse(key, expected)
        return float(value)

    def boolean(self, key: str, default: bool = _REQUIRED) -> bool:
        """Read true or false."""
        return bool(self._read(key, default, "true or false", bool))

    def string(self, key: str, default: str = _REQUIRED) -> str:
        """Read a string."""
        return str(self._read(key, default, "a string", str))

    def optional_string(self, key: str) -> str | None:
        """Read a string; None for an absent key."""
        return None if self._values.get(key) is None else self.string(key)

    def strings(self, key: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """Read a list of strings."""
        values = self._read(key, default, "a list of strings", list, tuple)
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, "a list of strings")
        return tuple(values)

    def one_or_more_strings(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Read a list of strings, or a single string."""
        return (self.string(key),) if isinstance(self._values.get(key), str) else self.strings(key, default)

    def texts(self, key: str) -> dict[str, str]:
        """Read an object of strings; an absent key counts as an empty object."""
        values = self.mapping(key) or {}
        if not all(isinstance(value, str) for value in values.values()):
            self.refuse(key, "an object of strings")
        return dict(values)

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """Read an object; None for an absent key."""
        value: Mapping[str, Any] | None = self._read(key, None, "an object", dict)
        return value

    def activation(self, key: str, default: str = _REQUIRED) -> Activation:
        """Read an activation, a name in `ACTIVATIONS`."""
        return self.named_activation(key, self.string(key, default))

    def named_activation(self, key: str, name: str) -> Activation:
        """Return the activation `name`, a part of the value of `key`."""
        if name not in ACTIVATIONS:
            self.refuse(key, f"one of {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]

    def expect(self, key: str, *allowed: Any) -> None:
        """Refuse a key unless the key is absent or has an allowed value."""
        self._known.add(key)
        value = self._values.get(key)
        if value is not None and value not in allowed:
            self.refuse(key, f"{' or '.join(map(repr, allowed))}, which is all that Triform implements")

    def ignore(self, *keys: str) -> None:
        """Accept keys without influence on the forward pass, with any value."""
        self._known.update(keys)

    def labels(self) -> tuple[str, ...]:
        """Read the names of the classes, in the order of the logits."""
        self.ignore("label2id")
        count = self.integer("num_labels", 2, maximum=MAX_LABELS)
        id2label = self.mapping("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
        try:
            return tuple(str(id2label[str(i)]) for i in range(len(id2label)))
        except KeyError as error:
            raise UnsupportedModelError(
                f"{self.where}: id2label has {len(id2label)} entries but none for {error}; expected 0, 1, 2 …"
            ) from error

    def problem(self) -> Problem:
        """Read the meaning of the scores of a sequence head."""
        labels = self.labels()
        value = self.string("problem_type", Problem.MULTI_LABEL if len(labels) == 1 else Problem.SINGLE_LABEL)
        if value not in set(Problem):
            self.refuse("problem_type", f"one of {', '.join(Problem)}")
        return Problem(value)

    def rotary(self, head_dim: int) -> Rotary:
        """Read rotary positions, in the layout of transformers 5 (`rope_parameters`) or the older `rope_scaling`."""
        if head_dim % 2:
            self.refuse("head_dim", f"an even one for rotary positions, not {head_dim}")
        context = self.optional_integer("max_position_embeddings")
        theta = self.number("rope_theta", 10_000.0)
        older, newer = self.mapping("rope_scaling"), self.mapping("rope_parameters")
        rope = Config(newer or older or {}, f"{self.where}: {'rope_parameters' if newer else 'rope_scaling'}")
        kind = rope.string("rope_type", rope.string("type", "default"))
        theta = rope.number("rope_theta", theta)
        scaling: LinearScaling | Llama3Scaling | None
        match kind:
            case "default":
                scaling = None
            case "linear":
                scaling = LinearScaling(factor=rope.number("factor"))
            case "llama3":
                scaling = Llama3Scaling(
                    factor=rope.number("factor"),
                    low_freq_factor=rope.number("low_freq_factor"),
                    high_freq_factor=rope.number("high_freq_factor"),
                    original_context_length=rope.integer("original_max_position_embeddings", context or _REQUIRED),
                )
            case _:
                rope.refuse("rope_type", "default, linear or llama3, which is all that Triform implements")
        rope.close()
        return Rotary(dim=head_dim, theta=theta, scaling=scaling)

    def close(self) -> None:
        """Refuse all keys not yet read, expected or ignored."""
        unknown = {key: value for key, value in self._values.items() if key not in self._known and value is not None}
        if unknown:
            listed = "\n  ".join(f"{key} = {value!r}" for key, value in unknown.items())
            raise UnsupportedModelError(
                f"{self.where}: Triform does not know these keys, so it cannot say whether they change the answers:\n"
                f"  {listed}\nIf they do not matter, take them out of a copy of the file."
            )
