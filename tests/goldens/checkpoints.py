"""Small random checkpoints, the same under any version of `transformers`, for golden answers of an old version.

A class of transformers defines the parameters; NumPy fills each by the name, so that neither torch's random
numbers nor the order of the parameters matter.
"""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent

SIZES = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def fill(model: Any) -> None:
    """Fill a model with numbers that give every parameter an effect: norms near 1, biases not 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(parameter.shape))
            if parameter.dim() == 1:
                is_norm = "norm" in name.lower() and name.endswith("weight")
                numbers = 0.2 * numbers + (1.0 if is_norm else 0.0)
            else:
                numbers = numbers * parameter.shape[-1] ** -0.5
            parameter.copy_(torch.tensor(numbers, dtype=torch.float32))


def save(model: Any, folder: Path, tokenizer_files: dict[str, Path], settings: dict[str, Any]) -> Path:
    """Write a model and the files of a tokenizer, with `settings` as tokenizer_config.json."""
    fill(model)
    model.save_pretrained(folder)
    for name, path in tokenizer_files.items():
        shutil.copyfile(path, folder / name)
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def bert_for_answers(folder: Path, minilm: Path) -> Path:
    """Save a BERT with a span head and the tokenizer of MiniLM."""
    config = transformers.BertConfig(**SIZES, intermediate_size=64)
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    return save(transformers.BertForQuestionAnswering(config), folder, {name: minilm / name for name in names}, {})


def roberta_for_answers(folder: Path) -> Path:
    """Save a RoBERTa with a span head, a small byte-level tokenizer and a context of 128 tokens."""
    sizes = {**SIZES, "vocab_size": 400, "pad_token_id": 1}
    config = transformers.RobertaConfig(**sizes, intermediate_size=64, max_position_embeddings=130)
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, **special}
    model = transformers.RobertaForQuestionAnswering(config)
    return save(model, folder, {"tokenizer.json": HERE / "byte_level.json"}, settings)


def t5(folder: Path, **config: Any) -> Path:
    """Save a T5 with a small unigram tokenizer."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, vocab_size=82, **config))
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    return save(model, folder, {"tokenizer.json": HERE / "unigram.json"}, {**settings, **special})
