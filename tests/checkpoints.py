"""Small checkpoints with real tokenizers and random weights, for tests of whole tasks."""

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.parity.harness import randomize

CORPUS = [
    "Once upon a time there was a small house by the sea, and in it lived a cat.",
    "translate English to German: The house is wonderful.",
    "Das Haus ist wunderbar, und die Katze schläft auf der Matte — 猫 🐈.",
    "It was the best of times, it was the worst of times; numbers: 1 2 3 4 5 6 7 8 9 0!",
]


def save(model: Any, tokenizer: Any, folder: Path, *, scale: float = 1.0) -> Path:
    """Give a model random weights, and save the model with a tokenizer."""
    torch.manual_seed(0)
    randomize(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert(architecture: str, minilm: Path, folder: Path, **config: Any) -> Path:
    """Save a random BERT with the tokenizer of MiniLM."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {**sizes, "intermediate_size": 64, "max_position_embeddings": 128, **config}
    model = getattr(transformers, architecture)(transformers.BertConfig(**config))
    save(model, transformers.AutoTokenizer.from_pretrained(minilm), folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(minilm / name, folder / name)
    return folder


CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}
{{ '<|' + message.role + '|>' + message.content + eos_token }}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""


def llama(architecture: str, folder: Path, chat_template: str | None = None, **config: Any) -> Path:
    """Save a random Llama with a byte-level tokenizer; every text begins with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=chat_template
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = {**sizes, "intermediate_size": 64, "max_position_embeddings": 128, "pad_token_id": 0, **config}
    config["vocab_size"] = tokenizer.get_vocab_size()
    return save(getattr(transformers, architecture)(transformers.LlamaConfig(**config)), fast, folder)


def t5(folder: Path, architecture: str = "T5ForConditionalGeneration", **config: Any) -> Path:
    """Save a random T5 with a unigram tokenizer; every text ends with </s>."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    config = {**sizes, "vocab_size": tokenizer.get_vocab_size(), **config}
    return save(getattr(transformers, architecture)(transformers.T5Config(**config)), fast, folder)


def bart(architecture: str, folder: Path, **config: Any) -> Path:
    """Save a random BART with the byte-level tokenizer of RoBERTa and a small vocabulary."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        # The model has no segments.
        model_input_names=["input_ids", "attention_mask"],
    )
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 512}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    config = {**sizes, **heads, "vocab_size": tokenizer.get_vocab_size(), **config}
    return save(getattr(transformers, architecture)(transformers.BartConfig(**config)), fast, folder)
