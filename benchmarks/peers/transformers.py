"""Hugging Face transformers as an expert runs the library: SDPA, float32, inference mode."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.machine import num_cores
from benchmarks.peers import Embed, Translate

SETTINGS = {"dtype": torch.float32, "attn_implementation": "sdpa"}


def convert_encoder(checkpoint: Path, folder: Path, format: str) -> None:
    _remember(checkpoint, folder)


def convert_encoder_decoder(checkpoint: Path, folder: Path, format: str) -> None:
    _remember(checkpoint, folder)


def load_encoder(folder: Path, format: str, *, streams: int, threads: int) -> Embed:
    # Mean pooling needs no pooler.
    model = _load(transformers.AutoModel, folder.joinpath("checkpoint").resolve(), threads, add_pooling_layer=False)

    def embed(texts: Sequence[list[int]]) -> NDArray[np.float32]:
        ids, mask = pad(texts, side="right")
        with torch.inference_mode():
            vectors: NDArray[np.float32] = mean(
                model(input_ids=ids, attention_mask=mask).last_hidden_state, mask
            ).numpy()
        return vectors

    return embed


def load_encoder_decoder(folder: Path, format: str, *, streams: int, threads: int) -> Translate:
    model = _load(transformers.AutoModelForSeq2SeqLM, folder.joinpath("checkpoint").resolve(), threads)

    def translate(sources: Sequence[list[int]], num_tokens: int, num_beams: int) -> list[list[int]]:
        # The decoder's start token precedes the new tokens.
        run = partial(_generate, model, num_tokens=num_tokens, num_beams=num_beams, side="right", skip=1)
        answers: list[list[int]] = [[] for _ in sources]
        with ThreadPoolExecutor(streams) as pool:
            parts = pool.map(run, [sources[stream::streams] for stream in range(streams)])
            for stream, part in enumerate(parts):
                answers[stream::streams] = part
        return answers

    return translate


def load_decoder(checkpoint: Path) -> Any:
    """Load a decoder with the language head."""
    return _load(transformers.AutoModelForCausalLM, checkpoint, num_cores())


def prefill(model: Any, prompt: list[int]) -> NDArray[np.float32]:
    """Read a prompt into a cache: the logits (vocab_size,) of the next token."""
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    logits: NDArray[np.float32] = output.logits[0, -1].numpy()
    return logits


def generate(model: Any, prompts: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
    """Decode `num_tokens` greedily for each prompt; the checkpoint names no end token."""
    return _generate(model, prompts, num_tokens=num_tokens, num_beams=1, side="left", skip=max(map(len, prompts)))


def mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average the kept rows: (texts, longest, hidden_size) to (texts, hidden_size)."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def pad(sequences: Sequence[list[int]], *, side: Literal["left", "right"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, (sequences, longest) each."""
    tensors = [torch.tensor(sequence) for sequence in sequences]
    ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_side=side)
    ones = [torch.ones_like(tensor) for tensor in tensors]
    return ids, torch.nn.utils.rnn.pad_sequence(ones, batch_first=True, padding_side=side)


def _remember(checkpoint: Path, folder: Path) -> None:
    """Link to the checkpoint: no conversion needed."""
    (folder / "checkpoint").symlink_to(checkpoint)


def _generate(
    model: Any,
    sources: Sequence[list[int]],
    *,
    num_tokens: int,
    num_beams: int,
    side: Literal["left", "right"],
    skip: int,
) -> list[list[int]]:
    ids, mask = pad(sources, side=side)
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, num_beams=num_beams, max_new_tokens=num_tokens
        )
    new: list[list[int]] = output[:, skip:].tolist()
    return new


def _load(kind: Any, checkpoint: Path, threads: int, **settings: Any) -> Any:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    return kind.from_pretrained(checkpoint, **SETTINGS, **settings).eval()
