"""The side of Hugging Face transformers, as one who knows it well would run it: SDPA, float32, inference mode.

Imports no Triform, so that a process can measure this side alone.
"""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

BATCH_SIZE = 32
"""Texts in one padded batch, after sorting by length."""

SETTINGS = {"dtype": torch.float32, "attn_implementation": "sdpa"}


def load_encoder(folder: Path) -> Any:
    """The backbone of a BERT checkpoint, without the pooler that no embedding needs."""
    return _load(transformers.AutoModel, folder, add_pooling_layer=False)


def load_decoder(folder: Path) -> Any:
    """A decoder with its language head."""
    return _load(transformers.AutoModelForCausalLM, folder)


def load_encoder_decoder(folder: Path) -> Any:
    """An encoder-decoder with its language head."""
    return _load(transformers.AutoModelForSeq2SeqLM, folder)


def embed(model: Any, texts: list[list[int]]) -> NDArray[np.float32]:
    """The mean of the last hidden states of each text: (texts, hidden_size). Sorted by length, padded, masked."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
    for begin in range(0, len(order), BATCH_SIZE):
        rows = order[begin : begin + BATCH_SIZE]
        ids, mask = pad([texts[row] for row in rows], side="right")
        with torch.inference_mode():
            vectors[rows] = _mean(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
    return vectors


def prefill(model: Any, prompt: list[int]) -> NDArray[np.float32]:
    """Read a prompt into a cache: the logits (vocab_size,) of the token that would follow."""
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    logits: NDArray[np.float32] = output.logits[0, -1].numpy()
    return logits


def generate(model: Any, sources: list[list[int]], num_tokens: int) -> list[list[int]]:
    """Greedy decoding of `num_tokens` for each source; the checkpoint names no end token."""
    is_decoder = not model.config.is_encoder_decoder
    ids, mask = pad(sources, side="left" if is_decoder else "right")
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens)
    # What precedes the new tokens: the prompt, or the token that a decoder with an encoder starts from.
    new: list[list[int]] = output[:, ids.shape[1] if is_decoder else 1 :].tolist()
    return new


def embed_sentence(folder: Path, sentence: str) -> list[float]:
    """A sentence embedding, from nothing."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(sentence, return_tensors="pt")
    with torch.inference_mode():
        pooled = _mean(load_encoder(folder)(**encoded).last_hidden_state, encoded["attention_mask"])
        vector: list[float] = torch.nn.functional.normalize(pooled)[0].tolist()
    return vector


def pad(sequences: list[list[int]], *, side: Literal["left", "right"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, (sequences, longest) each."""
    tensors = [torch.tensor(sequence) for sequence in sequences]
    ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_side=side)
    ones = [torch.ones_like(tensor) for tensor in tensors]
    return ids, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)


def _load(kind: Any, folder: Path, **settings: Any) -> Any:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return kind.from_pretrained(folder, **SETTINGS, **settings).eval()


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
