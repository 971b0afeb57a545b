"""Qwen3 Technical Report. Yang et al. 2025, arXiv:2505.09388. Llama with QK-norm."""

from triform import spec
from triform.families import llama, qwen2
from triform.families.kit.attention import ALL_BIASES
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Decoder:
    """Return a decoder with QK-norm. `head_dim` is 128 unless config.json has the key."""
    config.default("head_dim", 128)
    biases = ALL_BIASES if config.boolean("attention_bias", False) else frozenset()
    return llama.decoder(config, biases=biases, windows=qwen2.windows(config), has_head_norm=True)


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    # fmt: off
    return llama.weights(
        model,
        Rename("layers.*.self_attn.q_norm.weight", "blocks.*.attention.query_norm.weight"),
        Rename("layers.*.self_attn.k_norm.weight", "blocks.*.attention.key_norm.weight"),
    )
    # fmt: on


FAMILY = Family(
    model_type="qwen3",
    architectures={
        "Qwen3Model": backbone,
        "Qwen3ForCausalLM": llama.language_head,
        "Qwen3ForTokenClassification": token_head,
        "Qwen3ForSequenceClassification": last_token_head,
        "Qwen3ForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
