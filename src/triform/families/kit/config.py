"""Typed reads of config.json: activations, labels, rotary positions."""

from triform.errors import UnsupportedModelError, shown
from triform.settings import REQUIRED, Settings
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
    quantization_config task_specific_params prefix auto_map _attn_implementation
    name language license base_model max_sequence_length model_max_length eos_token_ids xla_device onnx_export
    is_composition custom_pipelines seed total_flos train_batch_size
    """.split()
)
"""Keys that do not concern a spec. `weights/` reads `quantization_config`, and tasks that generate text read
`task_specific_params` and `prefix`. `auto_map` names code, which transformers too leaves aside for a known model type.
"""

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

MAX_LAYERS = 1000
"""Wang et al. 2022, "DeepNet: Scaling Transformers to 1,000 Layers": no published model is deeper."""

MAX_LABELS = 100_000


class Config(Settings):
    """Typed reads of a config.json."""

    def num_layers(self, key: str, default: int = REQUIRED) -> int:
        """Read a number of blocks. The limit matters, since blocks become objects before shapes can be compared."""
        return self.integer(key, default, maximum=MAX_LAYERS)

    def key_value_heads(self, num_attention_heads: int) -> int:
        """Read `num_key_value_heads`, by default the number of query heads."""
        value = self.integer("num_key_value_heads", num_attention_heads)
        if num_attention_heads % value:
            self.refuse("num_key_value_heads", f"a divisor of num_attention_heads, which is {num_attention_heads}")
        return value

    def activation(self, key: str, default: str = REQUIRED) -> Activation:
        """Read an activation, a name in `ACTIVATIONS`."""
        return self.named_activation(key, self.string(key, default))

    def named_activation(self, key: str, name: str) -> Activation:
        """Return the activation `name`, a part of the value of `key`."""
        if name not in ACTIVATIONS:
            self.refuse(key, f"one of {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name]

    def labels(self) -> tuple[str, ...]:
        """Read the names of the classes, in the order of the logits; `label2id` must not contradict them.

        `label2id` may lack labels, or have others in addition, as many files do.
        """
        count = self.integer("num_labels", 2, maximum=MAX_LABELS)
        if named := self.mapping("id2label"):
            self.agree("num_labels", len(named), "id2label")
        id2label = named or {str(i): f"LABEL_{i}" for i in range(count)}
        try:
            labels = tuple(str(id2label[str(i)]) for i in range(len(id2label)))
        except KeyError as error:
            raise UnsupportedModelError(
                f"{self.where}: id2label has {len(id2label)} entries but none for {error}; expected 0, 1, 2 …"
            ) from error
        ids: dict[str, set[str]] = {}
        for number, label in enumerate(labels):
            ids.setdefault(label.lower(), set()).add(str(number))
        for label, id in (self.mapping("label2id") or {}).items():
            if str(id) not in ids.get(label.lower(), {str(id)}):
                raise UnsupportedModelError(
                    f"{self.where}: label2id says that {shown(label)} is {shown(id)}, and id2label that it is "
                    f"{' or '.join(sorted(ids[label.lower()]))}. Correct the wrong one."
                )
        return labels

    def problem(self) -> Problem:
        """Read the meaning of the scores of a sequence head."""
        labels = self.labels()
        value = self.string("problem_type", Problem.MULTI_LABEL if len(labels) == 1 else Problem.SINGLE_LABEL)
        if value not in set(Problem):
            self.refuse("problem_type", f"one of {', '.join(Problem)}")
        return Problem(value)

    def rotary(self, head_dim: int) -> Rotary:
        """Read rotary positions, in the layout of transformers 5 (`rope_parameters`) or the older `rope_scaling`.

        Where both are present, `rope_scaling` counts alone, as in the reference implementation. `rope_theta` within
        the object counts before the same key of config.json.
        """
        if head_dim % 2:
            self.refuse("head_dim", f"an even one for rotary positions, not {head_dim}")
        context = self.optional_integer("max_position_embeddings")
        theta = self.number("rope_theta", 10_000.0)
        older, newer = self.mapping("rope_scaling"), self.mapping("rope_parameters")
        rope = Config(older or newer or {}, f"{self.where}: {'rope_scaling' if older else 'rope_parameters'}")
        key = "rope_type" if rope.mentions("rope_type") else "type"  # the older name
        rope.ignore("type")
        kind = rope.string(key, "default")
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
                    original_context_length=rope.integer("original_max_position_embeddings", context or REQUIRED),
                )
            case _:
                rope.refuse(key, "default, linear or llama3, which is all that Triform implements")
        rope.close()
        return Rotary(dim=head_dim, theta=theta, scaling=scaling)
