"""The models to compare: each family with every variant in the recipe."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BartConfig,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MarianConfig,
    MistralConfig,
    MPNetConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from tests.parity.harness import Case

BERT = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
# The positions of these models begin at 2.
ROBERTA = {**BERT, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
MPNET = {**BERT, "max_position_embeddings": 66, "pad_token_id": 1}
DISTILBERT = {
    "vocab_size": 120,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 64,
}
LLAMA = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
GPT2 = {
    "vocab_size": 120,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {
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
}
BART = {
    "vocab_size": 120,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
MARIAN = {**BART, "scale_embedding": True, "activation_function": "swish", "decoder_start_token_id": 0}


def bert(**changes: Any) -> BertConfig:
    return BertConfig(**{**BERT, **changes})


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(**{**LLAMA, **changes})


def t5(**changes: Any) -> T5Config:
    return T5Config(**{**T5, **changes})


def of(config: Any, sizes: dict[str, Any], **changes: Any) -> Callable[[], Any]:
    """Return a function that makes a configuration."""
    return lambda: config(**{**sizes, **changes})


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def older_rope(config: dict[str, Any]) -> dict[str, Any]:
    """Rewrite to the layout before transformers 5: rope_theta at the top, the scaling under rope_scaling."""
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
    return config


def older_t5_v11(config: dict[str, Any]) -> dict[str, Any]:
    """Rewrite to the layout before transformers 5: tie_word_embeddings false means an unscaled output."""
    del config["scale_decoder_outputs"]
    config["tie_word_embeddings"] = False
    return config


def own_head(model: Any) -> None:
    """Give the model a separate head, as in T5 v1.1."""
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    # Saving then writes the head beside the shared embedding.
    for name in ("_tied_weights_keys", "all_tied_weights_keys"):
        tied = getattr(model, name)
        setattr(model, name, {target: source for target, source in tied.items() if target != "lm_head.weight"})


def with_logits_bias(model: Any) -> None:
    """Give the vocabulary a bias other than zero."""
    with torch.no_grad():
        model.final_logits_bias.normal_()


LONG = (130, 5, 64)

CASES = [
    Case(name="bert", model="BertModel", config=bert),
    Case(name="bert-masked-lm", model="BertForMaskedLM", config=bert),
    Case(name="bert-masked-lm-untied", model="BertForMaskedLM", config=lambda: bert(tie_word_embeddings=False)),
    Case(name="bert-tanh-gelu", model="BertForMaskedLM", config=lambda: bert(hidden_act="gelu_new")),
    Case(name="bert-relu-one-head", model="BertModel", config=lambda: bert(hidden_act="relu", num_attention_heads=1)),
    Case(name="bert-tokens", model="BertForTokenClassification", config=lambda: bert(num_labels=5)),
    Case(name="bert-spans", model="BertForQuestionAnswering", config=bert),
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
    Case(name="roberta", model="RobertaModel", config=of(RobertaConfig, ROBERTA)),
    Case(name="roberta-masked-lm", model="RobertaForMaskedLM", config=of(RobertaConfig, ROBERTA)),
    Case(
        name="roberta-masked-lm-untied",
        model="RobertaForMaskedLM",
        config=of(RobertaConfig, ROBERTA, tie_word_embeddings=False),
    ),
    Case(name="roberta-tokens", model="RobertaForTokenClassification", config=of(RobertaConfig, ROBERTA, num_labels=5)),
    Case(
        name="roberta-sequence",
        model="RobertaForSequenceClassification",
        config=of(RobertaConfig, ROBERTA, num_labels=3, pad_token_id=0, max_position_embeddings=65),
    ),
    Case(name="xlm-roberta-masked-lm", model="XLMRobertaForMaskedLM", config=of(XLMRobertaConfig, ROBERTA)),
    Case(
        name="xlm-roberta-sequence",
        model="XLMRobertaForSequenceClassification",
        config=of(XLMRobertaConfig, ROBERTA, num_labels=3),
    ),
    Case(name="distilbert", model="DistilBertModel", config=of(DistilBertConfig, DISTILBERT)),
    Case(name="distilbert-masked-lm", model="DistilBertForMaskedLM", config=of(DistilBertConfig, DISTILBERT)),
    Case(
        name="distilbert-tokens",
        model="DistilBertForTokenClassification",
        config=of(DistilBertConfig, DISTILBERT, num_labels=5, sinusoidal_pos_embds=True),
    ),
    Case(
        name="distilbert-sequence",
        model="DistilBertForSequenceClassification",
        config=of(DistilBertConfig, DISTILBERT, num_labels=3, activation="relu"),
    ),
    Case(name="mpnet", model="MPNetModel", config=of(MPNetConfig, MPNET)),
    Case(name="mpnet-masked-lm", model="MPNetForMaskedLM", config=of(MPNetConfig, MPNET)),
    Case(name="mpnet-tokens", model="MPNetForTokenClassification", config=of(MPNetConfig, MPNET, num_labels=5)),
    Case(name="mpnet-sequence", model="MPNetForSequenceClassification", config=of(MPNetConfig, MPNET, num_labels=3)),
    Case(name="bart", model="BartModel", config=of(BartConfig, BART)),
    Case(
        name="bart-lm",
        model="BartForConditionalGeneration",
        config=of(BartConfig, BART, forced_eos_token_id=2),
        prepare=with_logits_bias,
    ),
    Case(
        name="bart-scaled",
        model="BartForConditionalGeneration",
        config=of(BartConfig, BART, scale_embedding=True, activation_function="relu"),
    ),
    Case(name="marian", model="MarianModel", config=of(MarianConfig, MARIAN)),
    Case(name="marian-lm", model="MarianMTModel", config=of(MarianConfig, MARIAN), prepare=with_logits_bias),
    Case(name="gpt2", model="GPT2Model", config=of(GPT2Config, GPT2)),
    Case(name="gpt2-lm", model="GPT2LMHeadModel", config=of(GPT2Config, GPT2)),
    Case(
        name="gpt2-lm-untied",
        model="GPT2LMHeadModel",
        config=of(GPT2Config, GPT2, tie_word_embeddings=False, n_inner=40, activation_function="relu"),
    ),
    Case(name="gpt2-tokens", model="GPT2ForTokenClassification", config=of(GPT2Config, GPT2, num_labels=5)),
    Case(name="gpt2-sequence", model="GPT2ForSequenceClassification", config=of(GPT2Config, GPT2, num_labels=3)),
    Case(name="mistral-lm", model="MistralForCausalLM", config=of(MistralConfig, LLAMA, sliding_window=None)),
    Case(
        name="mistral-window",
        model="MistralForCausalLM",
        config=of(MistralConfig, LLAMA, sliding_window=5, num_key_value_heads=2, head_dim=12),
    ),
    Case(
        name="mistral-window-long",
        model="MistralModel",
        config=of(MistralConfig, LLAMA, sliding_window=100),
        lengths=(240, 99, 101),
    ),
    Case(
        name="mistral-sequence",
        model="MistralForSequenceClassification",
        config=of(MistralConfig, LLAMA, sliding_window=5, num_labels=3),
    ),
    Case(name="qwen2-lm", model="Qwen2ForCausalLM", config=of(Qwen2Config, LLAMA, tie_word_embeddings=True)),
    Case(
        name="qwen2-window",
        model="Qwen2ForCausalLM",
        config=of(Qwen2Config, LLAMA, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    ),
    Case(name="qwen2-tokens", model="Qwen2ForTokenClassification", config=of(Qwen2Config, LLAMA, num_labels=5)),
    Case(name="qwen3-lm", model="Qwen3ForCausalLM", config=of(Qwen3Config, LLAMA, head_dim=12, num_key_value_heads=2)),
    Case(
        name="qwen3-bias-window",
        model="Qwen3ForCausalLM",
        config=of(
            Qwen3Config,
            LLAMA,
            head_dim=8,
            attention_bias=True,
            use_sliding_window=True,
            sliding_window=5,
            max_window_layers=0,
        ),
    ),
    Case(name="qwen3", model="Qwen3Model", config=of(Qwen3Config, LLAMA)),
    Case(name="roberta-spans", model="RobertaForQuestionAnswering", config=of(RobertaConfig, ROBERTA)),
    Case(name="distilbert-spans", model="DistilBertForQuestionAnswering", config=of(DistilBertConfig, DISTILBERT)),
    Case(name="mpnet-spans", model="MPNetForQuestionAnswering", config=of(MPNetConfig, MPNET)),
    Case(name="xlm-roberta-spans", model="XLMRobertaForQuestionAnswering", config=of(XLMRobertaConfig, ROBERTA)),
    Case(name="bart-sequence", model="BartForSequenceClassification", config=of(BartConfig, BART, num_labels=4)),
    Case(
        name="bart-sequence-one-label",
        model="BartForSequenceClassification",
        config=of(BartConfig, BART, num_labels=1, decoder_start_token_id=1, eos_token_id=60, scale_embedding=True),
    ),
    Case(name="bart-spans", model="BartForQuestionAnswering", config=of(BartConfig, BART)),
    Case(name="t5-sequence", model="T5ForSequenceClassification", config=lambda: t5(num_labels=3)),
    Case(
        name="t5-v1.1-sequence",
        model="T5ForSequenceClassification",
        config=lambda: t5(num_labels=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    ),
    Case(name="t5-spans", model="T5ForQuestionAnswering", config=t5),
    Case(name="gpt2-spans", model="GPT2ForQuestionAnswering", config=of(GPT2Config, GPT2)),
    Case(name="llama-spans", model="LlamaForQuestionAnswering", config=llama),
    Case(
        name="mistral-spans",
        model="MistralForQuestionAnswering",
        config=of(MistralConfig, LLAMA, sliding_window=5),
    ),
    Case(name="qwen2-spans", model="Qwen2ForQuestionAnswering", config=of(Qwen2Config, LLAMA)),
    Case(name="qwen3-spans", model="Qwen3ForQuestionAnswering", config=of(Qwen3Config, LLAMA)),
    Case(name="mistral-tokens", model="MistralForTokenClassification", config=of(MistralConfig, LLAMA, num_labels=5)),
    Case(name="qwen2-sequence", model="Qwen2ForSequenceClassification", config=of(Qwen2Config, LLAMA, num_labels=3)),
    Case(name="qwen3-tokens", model="Qwen3ForTokenClassification", config=of(Qwen3Config, LLAMA, num_labels=5)),
    Case(name="qwen3-sequence", model="Qwen3ForSequenceClassification", config=of(Qwen3Config, LLAMA, num_labels=3)),
    Case(
        name="xlm-roberta-tokens",
        model="XLMRobertaForTokenClassification",
        config=of(XLMRobertaConfig, ROBERTA, num_labels=5),
    ),
]
