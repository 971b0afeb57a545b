"""The models to compare: each family with every variant that its recipe reads."""

from typing import Any

import torch
from transformers import BertConfig, LlamaConfig, T5Config

from tests.parity.harness import Case


def bert(**changes: Any) -> BertConfig:
    return BertConfig(
        **{
            "vocab_size": 120,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            **changes,
        }
    )


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(
        **{
            "vocab_size": 120,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 256,
            "pad_token_id": 0,
            **changes,
        }
    )


def t5(**changes: Any) -> T5Config:
    return T5Config(
        **{
            "vocab_size": 120,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 3,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
            "decoder_start_token_id": 0,
            **changes,
        }
    )


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def older_rope(config: dict[str, Any]) -> dict[str, Any]:
    """The layout before transformers 5: rope_theta at the top, the scaling under rope_scaling."""
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
    return config


def older_t5_v11(config: dict[str, Any]) -> dict[str, Any]:
    """The layout before transformers 5, which said by tie_word_embeddings not to scale the output."""
    del config["scale_decoder_outputs"]
    config["tie_word_embeddings"] = False
    return config


def own_head(model: Any) -> None:
    """A head of its own, as T5 v1.1 has it."""
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    # So that saving writes it beside the shared one.
    for name in ("_tied_weights_keys", "all_tied_weights_keys"):
        tied = getattr(model, name)
        setattr(model, name, {target: source for target, source in tied.items() if target != "lm_head.weight"})


LONG = (130, 5, 64)

CASES = [
    Case(name="bert", model="BertModel", config=bert),
    Case(name="bert-masked-lm", model="BertForMaskedLM", config=bert),
    Case(name="bert-masked-lm-untied", model="BertForMaskedLM", config=lambda: bert(tie_word_embeddings=False)),
    Case(name="bert-tanh-gelu", model="BertForMaskedLM", config=lambda: bert(hidden_act="gelu_new")),
    Case(name="bert-relu-one-head", model="BertModel", config=lambda: bert(hidden_act="relu", num_attention_heads=1)),
    Case(name="bert-tokens", model="BertForTokenClassification", config=lambda: bert(num_labels=5)),
    Case(name="bert-sequence", model="BertForSequenceClassification", config=lambda: bert(num_labels=3)),
    Case(name="llama", model="LlamaModel", config=llama),
    Case(name="llama-lm", model="LlamaForCausalLM", config=llama),
    Case(name="llama-lm-tied", model="LlamaForCausalLM", config=lambda: llama(tie_word_embeddings=True)),
    Case(name="llama-grouped", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=2)),
    Case(name="llama-one-key-head", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=1)),
    Case(name="llama-head-dim", model="LlamaForCausalLM", config=lambda: llama(head_dim=12)),
    Case(name="llama-attention-bias", model="LlamaForCausalLM", config=lambda: llama(attention_bias=True)),
    Case(name="llama-mlp-bias", model="LlamaForCausalLM", config=lambda: llama(mlp_bias=True)),
    Case(name="llama3", model="LlamaForCausalLM", config=lambda: llama(rope_parameters=LLAMA3), lengths=LONG),
    Case(
        name="llama3-older",
        model="LlamaForCausalLM",
        config=lambda: llama(rope_parameters=LLAMA3),
        rewrite_config=older_rope,
        lengths=LONG,
    ),
    Case(
        name="llama-linear-older",
        model="LlamaForCausalLM",
        config=lambda: llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}),
        rewrite_config=older_rope,
        lengths=LONG,
    ),
    Case(name="llama-tokens", model="LlamaForTokenClassification", config=lambda: llama(num_labels=5)),
    Case(name="llama-sequence", model="LlamaForSequenceClassification", config=lambda: llama(num_labels=3)),
    Case(name="t5", model="T5Model", config=t5, lengths=LONG),
    Case(name="t5-lm", model="T5ForConditionalGeneration", config=t5),
    Case(name="t5-head-dim", model="T5ForConditionalGeneration", config=lambda: t5(d_kv=10)),
    Case(
        name="t5-v1.1",
        model="T5ForConditionalGeneration",
        config=lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        prepare=own_head,
    ),
    Case(
        name="t5-v1.1-older",
        model="T5ForConditionalGeneration",
        config=lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        rewrite_config=older_t5_v11,
        prepare=own_head,
    ),
    Case(name="t5-gated-silu", model="T5ForConditionalGeneration", config=lambda: t5(feed_forward_proj="gated-silu")),
    Case(name="t5-encoder", model="T5EncoderModel", config=t5),
    Case(name="t5-tokens", model="T5ForTokenClassification", config=lambda: t5(num_labels=5)),
]
