"""Checkpoints made on the fly, and what peers make of them: the shape of a known model with random weights.

Random weights run as fast as trained ones.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

import torch
import transformers

from benchmarks.workload import minilm_folder


@dataclass(frozen=True, slots=True)
class Shape:
    """The class, the config and the dtype of a model with random weights."""

    kind: str
    """Class in transformers; the config class begins with the same word."""
    config: Mapping[str, Any]
    dtype: torch.dtype = torch.float32


def _bert(hidden: int, num_layers: int, num_heads: int, inner: int) -> Shape:
    config = {
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": inner,
        "position_embedding_type": "absolute",  # CTranslate2 needs the key, absent from the newest transformers
    }
    return Shape("BertModel", config)


def _marian(vocab_size: int, hidden: int, num_layers: int, num_heads: int, inner: int) -> Shape:
    sizes = {"layers": num_layers, "attention_heads": num_heads, "ffn_dim": inner}
    config = {
        "vocab_size": vocab_size,
        "d_model": hidden,
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sizes.items()},
        "activation_function": "swish",
        "scale_embedding": True,
        "max_position_embeddings": 512,
        "pad_token_id": vocab_size - 1,
        "decoder_start_token_id": vocab_size - 1,
        "eos_token_id": None,
        "forced_eos_token_id": None,
    }
    return Shape("MarianMTModel", config)


def _llama(
    vocab_size: int,
    hidden: int,
    num_layers: int,
    num_heads: int,
    num_key_value_heads: int,
    inner: int,
    dtype: torch.dtype = torch.float32,
) -> Shape:
    config = {
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_key_value_heads,
        "intermediate_size": inner,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return Shape("LlamaForCausalLM", config, dtype)


SHAPES = {
    "bert-base": _bert(768, 12, 12, 3072),
    "bert-tiny": _bert(64, 2, 4, 128),
    "marian-base": _marian(59514, 512, 6, 8, 2048),
    "marian-tiny": _marian(514, 64, 2, 4, 128),
    "llama-0.25b": _llama(32000, 1024, 16, 16, 4, 2816),
    "llama-1.1b": _llama(32000, 2048, 22, 32, 4, 5632, torch.bfloat16),
    "llama-tiny": _llama(512, 256, 2, 4, 2, 512),
}

KEPT = Path(gettempdir()) / "triform-benchmarks"
"""Folder in which `--keep` leaves checkpoints and conversions for the next run."""


class Workspace:
    """A folder of checkpoints and conversions; the first request makes each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checkpoint(self, name: str) -> Path:
        """Return a model of `SHAPES`, or the pretrained "minilm", in the Hugging Face layout."""
        return minilm_folder() if name == "minilm" else self._made(name, lambda folder: _save_random(name, folder))

    def converted(self, name: str, peer: str, format: str, convert: Callable[[Path, Path, str], None]) -> Path:
        """Return the conversion for a peer; `convert` gets the checkpoint, an empty folder and the format."""
        return self._made(f"{name}-{peer}-{format}", lambda folder: convert(self.checkpoint(name), folder, format))

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder, and give the folder the name only after the content is complete."""
        folder = self._folder / name
        if not folder.exists():
            unfinished = Path(mkdtemp(dir=self._folder))
            make(unfinished)
            unfinished.rename(folder)
        return folder


@contextmanager
def workspace(*, keep: bool) -> Iterator[Workspace]:
    """Yield a workspace; delete the folder at the end unless `keep`."""
    if keep:
        KEPT.mkdir(exist_ok=True)
        yield Workspace(KEPT)
        return
    folder = Path(mkdtemp())
    try:
        yield Workspace(folder)
    finally:
        shutil.rmtree(folder)


def _save_random(name: str, folder: Path) -> None:
    """Write a model with matrices scaled to keep the size of the states constant."""
    shape = SHAPES[name]
    prefix = re.match("[A-Z][a-z]+", shape.kind)
    assert prefix is not None
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix[0]}Config")(**shape.config)
    model = getattr(transformers, shape.kind)._from_config(config, dtype=shape.dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0  # as after training; CTranslate2 assumes this row of a Marian
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
