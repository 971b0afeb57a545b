"""Folders with a small tokenizer of each kind, as transformers saves the tokenizers or as older programs did."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.inputs.hard_texts import TEXTS, write_json

WORDS = ["the", "cat", "The", "unaffable", "##s", "東", "é", "É", "[", "]", "<", ">", "/"]
BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
T5_ANGLES = ["<pad>", "</s>", "<unk>"]
PLAIN_TEXTS = [text for text in TEXTS if "\x00" not in text]


def _word_piece(folder: Path, name: str, **config: Any) -> Path:
    vocabulary = [*BRACKETS, *WORDS, *string.printable.strip(), *(f"##{letter}" for letter in string.printable.strip())]
    vocabulary = list(dict.fromkeys(vocabulary))
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.get("do_lower_case", True))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer.add_special_tokens(BRACKETS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BRACKETS, strict=True))
    return _save(folder, tokenizer, "bert", {"tokenizer_class": name, "model_max_length": 64, **roles, **config})


def _byte_level(special: list[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(PLAIN_TEXTS, trainer)
    return tokenizer


def _save(folder: Path, tokenizer: tokenizers.Tokenizer, model_type: str, config: dict[str, Any]) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", {"model_type": model_type})
    write_json(folder / "tokenizer_config.json", config)
    return folder


def bert(folder: Path) -> Path:
    """Write WordPiece with the settings that BERT's tokenizer has."""
    return _word_piece(folder, "BertTokenizer")


def cased(folder: Path) -> Path:
    """Write WordPiece with a setting against the default of its class."""
    return _word_piece(folder, "BertTokenizer", do_lower_case=False)


def whole(folder: Path) -> Path:
    """Write WordPiece whose class leaves everything to tokenizer.json."""
    return _word_piece(folder, "PreTrainedTokenizerFast")


def words(folder: Path) -> Path:
    """Write WordPiece without tokenizer.json."""
    bert(folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    return folder


def gpt2(folder: Path) -> Path:
    """Write bytes without special tokens around a text."""
    return _save(folder, _byte_level(["<|endoftext|>"]), "gpt2", {"tokenizer_class": "GPT2Tokenizer"})


def merges(folder: Path) -> Path:
    """Write bytes without tokenizer.json."""
    gpt2(folder)
    tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    return folder


def qwen2(folder: Path) -> Path:
    """Write bytes with each digit apart, as transformers saves them."""
    gpt2(folder)
    write_json(folder / "config.json", {"model_type": "qwen2"})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"})
    transformers.AutoTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    return folder


def roberta(folder: Path) -> Path:
    """Write bytes with special tokens around a text."""
    tokenizer = _byte_level(ANGLES)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return _save(folder, tokenizer, "roberta", {"tokenizer_class": "RobertaTokenizer"})


def _unigram(special: list[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(PLAIN_TEXTS, trainer)
    return tokenizer


def t5(folder: Path) -> Path:
    """Write unigrams with </s> behind a text."""
    tokenizer = _unigram(T5_ANGLES)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return _save(folder, tokenizer, "t5", {"tokenizer_class": "T5Tokenizer", "extra_ids": 3})


def xlm_roberta(folder: Path) -> Path:
    """Write unigrams with special tokens around a text."""
    tokenizer = _unigram(ANGLES)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _save(folder, tokenizer, "xlm-roberta", {"tokenizer_class": "XLMRobertaTokenizer"})


def llama(folder: Path) -> Path:
    """Write merges of a text with its spaces, in the form of Llama 2."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator(PLAIN_TEXTS, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return _save(folder, tokenizer, "llama", {"tokenizer_class": "LlamaTokenizer", "legacy": False})


FOLDERS: dict[str, Callable[[Path], Path]] = {
    write.__name__: write for write in (bert, cased, whole, words, gpt2, merges, qwen2, roberta, t5, xlm_roberta, llama)
}
