"""Small sound checkpoints of several families, with every kind of file that Triform reads, as originals to damage."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests import checkpoints
from tests.inputs import sentence_piece_files
from tests.inputs.hard_texts import write_json
from tests.parity.harness import randomize

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a the cat dog sat on mat ##s ##ing . , house sea by".split()
SIZES: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
LABELS = ("entailment", "neutral", "contradiction")
CONVERSATION = [{"role": "user", "content": "A cat?"}, {"role": "assistant", "content": "By the sea."}]
PAIR = {"text": "A cat sat.", "text_pair": "The dogs"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A checkpoint, a task and an input."""

    folder: Path
    task: str
    given: Any = "A cat sat on the mat."
    options: dict[str, Any] = field(default_factory=dict)
    adapter: str | None = None
    """Folder of the adapter, relative to the checkpoint."""


def save(model: Any, folder: Path) -> Path:
    """Give a model random weights, and save the model without a tokenizer."""
    randomize(model)
    model.save_pretrained(folder)
    return folder


def save_random(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write random tensors of these shapes."""
    rng = np.random.default_rng(0)
    save_file({name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}, file, {"format": "pt"})


def bert_of_sentences(folder: Path) -> Sound:
    """Save older tokenizer files, and the files of sentence-transformers."""
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **SIZES)
    save(transformers.BertModel(config), folder)
    (folder / "vocab.txt").write_text("\n".join([*WORDS, ""]))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 64})
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}
    write_json(folder / "special_tokens_map.json", {**roles, "additional_special_tokens": ["<x>"]})
    write_json(folder / "added_tokens.json", {"<x>": len(WORDS), "<y>": len(WORDS) + 1})
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "include_prompt": False}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 8, "out_features": 4, "bias": True, "use_residual": True}
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    write_json(folder / "2_Dense" / "config.json", {**dense, **activation})
    save_random(
        folder / "2_Dense" / "model.safetensors",
        {"linear.weight": (4, 8), "linear.bias": (4,), "residual.weight": (4, 8)},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    prompts = {"prompts": {"query": "the cat "}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", prompts)
    return Sound(folder=folder, task="sentence-embedding")


def bert_of_labels(folder: Path, head: str = "SequenceClassification", labels: tuple[str, ...] = LABELS) -> Sound:
    """Save a WordPiece tokenizer.json, and labels."""
    config = transformers.BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=64, id2label=dict(enumerate(labels)), **SIZES
    )
    save(getattr(transformers, f"BertFor{head}")(config), folder)
    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"model_max_length": 64, "mask_token": "[MASK]"})
    return Sound(folder=folder, task="text-classification", given=PAIR, options={"top_k": None})


def llama_in_shards(folder: Path) -> Sound:
    """Save byte-level BPE in tokenizer.json, weights in two files, and generation settings."""
    checkpoints.llama("LlamaForCausalLM", folder, num_key_value_heads=1, **SIZES)
    tensors = load_file(folder / "model.safetensors")
    names, weight_map = sorted(tensors), dict[str, str]()
    for number, own in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in own}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})
    settings = {"bos_token_id": 1, "eos_token_id": [2], "temperature": 0.7, "top_p": 0.9, "num_beams": 2}
    write_json(folder / "generation_config.json", settings)
    return Sound(folder=folder, task="text-generation", options={"max_new_tokens": 3})


def llama_that_chats(folder: Path) -> Sound:
    """Save a chat template, and generation settings with end tokens."""
    checkpoints.llama("LlamaForCausalLM", folder, checkpoints.CHAT_TEMPLATE, num_key_value_heads=1, **SIZES)
    settings = {"eos_token_id": 2, "stop_strings": ["sea"], "max_time": 5.0, "at_context_end": "stop"}
    write_json(folder / "generation_config.json", {**settings, "do_sample": True, "min_p": 0.1, "top_k": 9})
    return Sound(folder=folder, task="text-generation", given={"messages": CONVERSATION}, options={"max_new_tokens": 3})


def llama_adapted(folder: Path, llama: Path) -> Sound:
    """Save a low-rank adapter with magnitudes."""
    shutil.copytree(llama, folder)
    (folder / "adapter").mkdir()
    shapes = {"lora_A.weight": (2, 8), "lora_B.weight": (8, 2), "lora_magnitude_vector": (8,)}
    modules = [f"base_model.model.model.layers.{layer}.self_attn.q_proj" for layer in range(2)]
    save_random(
        folder / "adapter" / "adapter_model.safetensors",
        {f"{module}.{part}": shape for module in modules for part, shape in shapes.items()},
    )
    kind = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "x/y", "bias": "none"}
    ranks = {"r": 2, "lora_alpha": 4, "use_dora": True, "use_rslora": False, "init_lora_weights": True}
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3}}
    write_json(folder / "adapter" / "adapter_config.json", {**kind, **ranks, **patterns, "target_modules": ["q_proj"]})
    return Sound(folder=folder, task="text-generation", options={"max_new_tokens": 3}, adapter="adapter")


def bert_in_a_pickle(folder: Path, labels: Path) -> Sound:
    """Save weights as a pickle, to be converted."""
    shutil.copytree(labels, folder)
    tensors = {name: torch.from_numpy(array) for name, array in load_file(folder / "model.safetensors").items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return Sound(folder=folder, task="convert")


def bart_of_labels(folder: Path) -> Sound:
    """Save a model with a head over a second pass of the source."""
    sizes = {f"{side}_{key}": 2 for side in ("encoder", "decoder") for key in ("layers", "attention_heads")}
    feed_forward = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    checkpoints.bart("BartForSequenceClassification", folder, d_model=8, **sizes, **feed_forward)
    return Sound(folder=folder, task="text-classification")


def xlm_roberta(folder: Path) -> Sound:
    """Save a SentencePiece model with shifted ids, and positions that begin behind the padding id."""
    folder.mkdir()
    sentence_piece_files.train(folder / "sentencepiece.bpe.model", vocab_size=350, character_coverage=0.98)
    config = transformers.XLMRobertaConfig(vocab_size=352, max_position_embeddings=64, pad_token_id=1, **SIZES)
    save(transformers.XLMRobertaForMaskedLM(config), folder)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer", "mask_token": "<mask>"})
    return Sound(folder=folder, task="fill-mask", given="the <mask> sat")


def gpt2_of_merges(folder: Path, llama: Path) -> Sound:
    """Save byte-level BPE in vocab.json and merges.txt."""
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    config = transformers.GPT2Config(
        vocab_size=400, n_embd=8, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    save(transformers.GPT2LMHeadModel(config), folder)
    tokenizer.model.save(str(folder))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **roles})
    return Sound(folder=folder, task="text-generation", options={"max_new_tokens": 3})


def t5_of_unigrams(folder: Path) -> Sound:
    """Save unigrams in tokenizer.json."""
    checkpoints.t5(folder, d_model=8, d_kv=4, d_ff=16, num_heads=2, vocab_size=400)
    return Sound(folder=folder, task="text2text-generation", options={"max_new_tokens": 3})


def t5_of_sentence_pieces(folder: Path, t5: Path) -> Sound:
    """Save the same weights with spiece.model."""
    shutil.copytree(t5, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    sentence_piece_files.train(
        folder / "spiece.model", vocab_size=350, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98
    )
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 4})
    return Sound(folder=folder, task="text2text-generation", options={"max_new_tokens": 3})


def marian(folder: Path) -> Sound:
    """Save two SentencePiece models, and a vocabulary with ids for the pieces."""
    folder.mkdir()
    for name in ("source.spm", "target.spm"):
        sentence_piece_files.train(folder / name, vocab_size=350, character_coverage=0.98)
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(str(folder / "source.spm"))
    words = ["</s>", "<unk>", *(piece for piece in map(pieces.id_to_piece, range(3, len(pieces)))), "<pad>"]
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(words)})
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    sides = {f"{side}_{key}": size for side in ("encoder", "decoder") for key, size in sizes.items()}
    ids = {"pad_token_id": len(words) - 1, "decoder_start_token_id": len(words) - 1, "eos_token_id": 0}
    config = transformers.MarianConfig(vocab_size=len(words), d_model=8, max_position_embeddings=64, **sides, **ids)
    save(transformers.MarianMTModel(config), folder)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "source_lang": "en"})
    return Sound(folder=folder, task="translation", options={"max_new_tokens": 3})
