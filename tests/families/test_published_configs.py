"""Config keys of well-known checkpoints on the Hub, with small sizes."""

from typing import Any

import pytest

from triform import spec
from triform.families import read_spec

BERT = {
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 100,
}
POOLER = {
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
LABELS = {"id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}, "label2id": {"O": 0, "B-PER": 1, "I-PER": 2}}
T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_ff": 64,
    "d_kv": 8,
    "d_model": 32,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "n_positions": 512,
    "num_heads": 4,
    "num_layers": 2,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "vocab_size": 100,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 131072,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 100,
}
LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
PREFIXES = {
    "summarization": {"early_stopping": True, "length_penalty": 2.0, "num_beams": 4, "prefix": "summarize: "},
    "translation_en_to_de": {"max_length": 300, "num_beams": 4, "prefix": "translate English to German: "},
}

ROBERTA = {**BERT, "model_type": "roberta", "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
SEQ2SEQ = {
    "_num_labels": 3,
    "activation_dropout": 0.0,
    "add_final_layer_norm": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "classif_dropout": 0.0,
    "classifier_dropout": 0.0,
    "d_model": 32,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 2,
    "dropout": 0.1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 2,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "max_position_embeddings": 64,
    "normalize_before": False,
    "num_beams": 4,
    "num_hidden_layers": 2,
    "output_past": True,
    "use_cache": True,
    "vocab_size": 100,
}
QWEN = {**LLAMA, "max_window_layers": 28, "rope_theta": 1000000.0, "use_sliding_window": False}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": {
        **BERT,
        "architectures": ["BertForMaskedLM"],
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0",
        "use_cache": True,
    },
    "bert-base-multilingual-cased": {**BERT, **POOLER, "architectures": ["BertForMaskedLM"]},
    "bert-base-ner": {
        **BERT,
        **POOLER,
        **LABELS,
        "_num_labels": 3,
        "architectures": ["BertForTokenClassification"],
        "output_past": True,
    },
    "ms-marco-minilm": {
        **BERT,
        "_name_or_path": "sentence-transformers/ms-marco",
        "architectures": ["BertForSequenceClassification"],
        "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
    },
    "roberta-base": {**ROBERTA, "architectures": ["RobertaForMaskedLM"], "type_vocab_size": 1},
    "xlm-roberta-base": {
        **ROBERTA,
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaForMaskedLM"],
        "output_past": True,
        "position_embedding_type": "absolute",
    },
    "distilbert-sst-2": {
        "model_type": "distilbert",
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification"],
        "attention_dropout": 0.1,
        "dim": 32,
        "dropout": 0.1,
        "finetuning_task": "sst-2",
        "hidden_dim": 64,
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "initializer_range": 0.02,
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "max_position_embeddings": 64,
        "n_heads": 4,
        "n_layers": 2,
        "output_past": True,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "vocab_size": 100,
    },
    "all-mpnet-base-v2": {
        **{key: value for key, value in ROBERTA.items() if key != "type_vocab_size"},
        "model_type": "mpnet",
        "architectures": ["MPNetForMaskedLM"],
        "relative_attention_num_buckets": 32,
    },
    "bart-large-cnn": {
        **SEQ2SEQ,
        "model_type": "bart",
        "architectures": ["BartForConditionalGeneration"],
        "activation_function": "gelu",
        "decoder_start_token_id": 2,
        "early_stopping": True,
        "eos_token_id": 2,
        "force_bos_token_to_be_generated": True,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "length_penalty": 2.0,
        "max_length": 142,
        "min_length": 56,
        "no_repeat_ngram_size": 3,
        "pad_token_id": 1,
        "prefix": " ",
        "scale_embedding": False,
        "task_specific_params": PREFIXES,
    },
    "bart-large-mnli": {
        **SEQ2SEQ,
        "model_type": "bart",
        "_num_labels": 3,
        "activation_function": "gelu",
        "architectures": ["BartForSequenceClassification"],
        "decoder_start_token_id": 2,
        "eos_token_id": 2,
        "forced_eos_token_id": 2,
        "id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"},
        "label2id": {"contradiction": 0, "entailment": 2, "neutral": 1},
        "output_past": False,
        "pad_token_id": 1,
        "scale_embedding": False,
    },
    "opus-mt-en-fr": {
        **SEQ2SEQ,
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "activation_function": "swish",
        "add_bias_logits": False,
        "bad_words_ids": [[99]],
        "decoder_start_token_id": 99,
        "decoder_vocab_size": 100,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "max_length": 512,
        "normalize_embedding": False,
        "pad_token_id": 99,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True,
    },
    "gpt2": {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 99,
        "embd_pdrop": 0.1,
        "eos_token_id": 99,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "n_ctx": 64,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 100,
    },
    "mistral-7b": {
        **{key: value for key, value in LLAMA.items() if not key.startswith(("attention_bias", "pretraining"))},
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
    "qwen2.5": {
        **{key: value for key, value in QWEN.items() if not key.startswith(("attention_bias", "pretraining"))},
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "sliding_window": 32768,
        "use_mrope": False,
    },
    "qwen3": {
        **{key: value for key, value in QWEN.items() if not key.startswith("pretraining")},
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": 8,
        "rope_scaling": None,
        "sliding_window": None,
    },
    "t5-small": {**T5, "task_specific_params": PREFIXES},
    "flan-t5": {
        **T5,
        "classifier_dropout": 0.0,
        "dense_act_fn": "gelu_new",
        "feed_forward_proj": "gated-gelu",
        "is_gated_act": True,
        "num_decoder_layers": 2,
        "relative_attention_max_distance": 128,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.23.1",
        "use_cache": True,
    },
    "llama-2": {**LLAMA, "_name_or_path": "meta-llama", "rope_scaling": None},
    "llama-3.2": {**LLAMA, "head_dim": 8, "mlp_bias": False, "rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "smollm2": {
        **LLAMA,
        "is_llama_config": True,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 130000,
        "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
        "unsloth_version": "2024.9",
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_as_they_are_published(name: str) -> None:
    model = read_spec(CONFIGS[name], "config.json")
    assert model.head is not None
    read_spec(CONFIGS[name], "config.json", with_head=False)


def test_what_they_say() -> None:
    flan = read_spec(CONFIGS["flan-t5"], "config.json").head
    small = read_spec(CONFIGS["t5-small"], "config.json").head
    assert isinstance(flan, spec.LanguageHead)
    assert isinstance(small, spec.LanguageHead)
    assert (flan.scale, small.scale) == (1.0, 32**-0.5)
    llama = read_spec(CONFIGS["llama-3.2"], "config.json").output_stack.blocks[0][0].core
    assert isinstance(llama, spec.SelfAttention)
    assert isinstance(llama.position, spec.Rotary)
    assert isinstance(llama.position.scaling, spec.Llama3Scaling)
    ranker = read_spec(CONFIGS["ms-marco-minilm"], "config.json").head
    assert isinstance(ranker, spec.SequenceHead)
    assert ranker.labels == ("LABEL_0",)
    mnli = read_spec(CONFIGS["bart-large-mnli"], "config.json")
    assert isinstance(mnli.form, spec.EncoderDecoder)
    assert mnli.form.target == spec.ShiftTokensRight(start=2)
    assert isinstance(mnli.head, spec.SequenceHead)
    assert (mnli.head.pooling, mnli.head.labels[2]) == (spec.LastOf(token=2), "entailment")
