"""Small sound checkpoints of several families, with every kind of file that is read: what damage is done to."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
PAIR = {"text": "A cat sat.", "text_pair": "The dogs"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A checkpoint, and what it is asked."""

    folder: Path
    task: str
    given: Any = "A cat sat on the mat."
    options: dict[str, Any] = field(default_factory=dict)


def save(model: Any, folder: Path) -> Path:
    """Give a model random weights, and save it without a tokenizer."""
    randomize(model)
    model.save_pretrained(folder)
    return folder


def bert_of_sentences(folder: Path) -> Sound:
    """Older tokenizer files, and those of sentence-transformers."""
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **SIZES)
    save(transformers.BertModel(config), folder)
    (folder / "vocab.txt").write_text("\n".join([*WORDS, ""]))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 64})
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}
    write_json(folder / "special_tokens_map.json", {**roles, "additional_special_tokens": ["<x>"]})
    write_json(folder / "added_tokens.json", {"<x>": len(WORDS), "<y>": len(WORDS) + 1})
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "include_prompt": False}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    prompts = {"prompts": {"query": "the cat "}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", prompts)
    return Sound(folder=folder, task="sentence-embedding")


def bert_of_labels(folder: Path, head: str = "SequenceClassification", labels: tuple[str, ...] = LABELS) -> Sound:
    """WordPiece in tokenizer.json, and labels."""
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
    """Byte-level BPE in tokenizer.json, weights in two files, and settings for generation."""
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


def gpt2_of_merges(folder: Path, llama: Path) -> Sound:
    """Byte-level BPE in vocab.json and merges.txt."""
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
    """Unigrams in tokenizer.json."""
    checkpoints.t5(folder, d_model=8, d_kv=4, d_ff=16, num_heads=2, vocab_size=400)
    return Sound(folder=folder, task="text2text-generation", options={"max_new_tokens": 3})


def t5_of_sentence_pieces(folder: Path, t5: Path) -> Sound:
    """The same weights with spiece.model."""
    shutil.copytree(t5, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    sentence_piece_files.train(
        folder / "spiece.model", vocab_size=350, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98
    )
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 4})
    return Sound(folder=folder, task="text2text-generation", options={"max_new_tokens": 3})


def marian(folder: Path) -> Sound:
    """Two SentencePiece models, and a vocabulary that numbers their pieces."""
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
