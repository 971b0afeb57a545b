"""Learning beside transformers: the same weights and batches, AdamW, float32; losses step by step. Nothing is timed.

Sequences are of mixed lengths, padded for transformers, of a chain in which a token mostly says the next one, so that
there is something to learn. Dropout is off, since both would draw differently.

    python -m benchmarks.learning [--only bert …] [--steps N]
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.nn import functional

import triform
from triform.model import load_for_training
from triform.model.trainable import trainable_parameters

VOCAB_SIZE = 500
MASK, PADDING = 4, 0
FIRST_ID = 5
IGNORED = -100
SIZES = {"vocab_size": VOCAB_SIZE, "pad_token_id": PADDING}
ENCODER = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
BART = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "dropout": 0.0,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
}
Ids = NDArray[np.int64]
Batch = dict[str, list[Ids]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """A model, the settings and the batches."""

    config: str
    architecture: str
    settings: Mapping[str, Any]
    batch: Callable[[np.random.Generator], Batch]
    """Draws the ids to read, `input_ids`, and for an encoder-decoder `decoder_input_ids`; and for each row `labels`."""
    learning_rate: float = 1e-3


def sequences(random: np.random.Generator) -> list[Ids]:
    """Draw sixteen sequences of a chain; nine times of ten, the last token determines the next."""
    drawn = []
    for length in np.clip(random.lognormal(3, 0.5, 16), 4, 60).astype(int).tolist():
        ids = random.integers(FIRST_ID, VOCAB_SIZE, length)
        for place in range(1, length):
            if random.random() < 0.9:
                ids[place] = FIRST_ID + (7 * ids[place - 1] + 3) % (VOCAB_SIZE - FIRST_ID)
        drawn.append(ids)
    return drawn


def masked(random: np.random.Generator) -> Batch:
    """Mask a fifth of the tokens, as labels for prediction."""
    true = sequences(random)
    hidden = [random.random(len(ids)) < 0.2 for ids in true]
    return {
        "input_ids": [np.where(own, MASK, ids) for ids, own in zip(true, hidden, strict=True)],
        "labels": [np.where(own, ids, IGNORED) for ids, own in zip(true, hidden, strict=True)],
    }


def next_token(random: np.random.Generator) -> Batch:
    """Predict each token from the tokens before."""
    true = sequences(random)
    return {"input_ids": [ids[:-1] for ids in true], "labels": [ids[1:] for ids in true]}


def target(random: np.random.Generator) -> Batch:
    """Predict each token of the source, shifted by one place in the vocabulary."""
    sources = sequences(random)
    targets = [FIRST_ID + (ids + 1 - FIRST_ID) % (VOCAB_SIZE - FIRST_ID) for ids in sources]
    fed = [np.concatenate([[PADDING], ids[:-1]]) for ids in targets]
    return {"input_ids": sources, "decoder_input_ids": fed, "labels": targets}


LEARNERS = {
    "bert": Learner(config="BertConfig", architecture="BertForMaskedLM", settings=ENCODER, batch=masked),
    "roberta": Learner(config="RobertaConfig", architecture="RobertaForMaskedLM", settings=ENCODER, batch=masked),
    "t5": Learner(
        config="T5Config",
        architecture="T5ForConditionalGeneration",
        settings={
            "d_model": 128,
            "d_kv": 32,
            "d_ff": 512,
            "num_layers": 2,
            "num_heads": 4,
            "dropout_rate": 0.0,
            "decoder_start_token_id": PADDING,
        },
        batch=target,
        learning_rate=3e-4,  # at 1e-3 two runs of transformers diverge after a change of 1e-7 in the first weights
    ),
    "bart": Learner(
        config="BartConfig",
        architecture="BartForConditionalGeneration",
        settings={**BART, "decoder_start_token_id": 2},
        batch=target,
    ),
    "marian": Learner(
        config="MarianConfig",
        architecture="MarianMTModel",
        settings={**BART, "decoder_start_token_id": PADDING, "decoder_vocab_size": VOCAB_SIZE},
        batch=target,
    ),
    "gpt2": Learner(
        config="GPT2Config",
        architecture="GPT2LMHeadModel",
        settings={
            "n_embd": 128,
            "n_layer": 4,
            "n_head": 4,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        batch=next_token,
    ),
    "llama": Learner(
        config="LlamaConfig",
        architecture="LlamaForCausalLM",
        settings={
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 512,
        },
        batch=next_token,
    ),
}


def steps(learner: Learner, folder: Path) -> Iterator[tuple[float, float]]:
    """Train both sides; return the losses of each step, Triform's and of transformers."""
    torch.manual_seed(0)
    config = getattr(transformers, learner.config)(**SIZES, **learner.settings)
    reference = getattr(transformers, learner.architecture)(config).train()
    reference.save_pretrained(folder)
    model = load_for_training(folder)
    ours, theirs = list(trainable_parameters(model).values()), list(reference.parameters())
    optimizers = [torch.optim.AdamW(own, lr=learner.learning_rate, weight_decay=0.01) for own in (ours, theirs)]
    random = np.random.default_rng(0)
    while True:
        batch = learner.batch(random)
        with model.engine.training():
            losses = (loss_of_ours(model, batch), loss_of_theirs(reference, batch))
        for loss, optimizer, parameters in zip(losses, optimizers, (ours, theirs), strict=True):
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        yield losses[0].item(), losses[1].item()


def loss_of_ours(model: triform.Model, batch: Batch) -> torch.Tensor:
    """Return the mean loss over the labels, from packed sequences."""
    names = [name for name in ("input_ids", "decoder_input_ids") if name in batch]
    network: Any = model.network
    output = network(*(triform.Batch.from_ids([ids.tolist() for ids in batch[name]]) for name in names))
    return functional.cross_entropy(output.logits, torch.from_numpy(np.concatenate(batch["labels"])))


def loss_of_theirs(reference: Any, batch: Batch) -> torch.Tensor:
    """Return the same mean from padded sequences."""
    arguments = {name: padded(rows, IGNORED if name == "labels" else PADDING) for name, rows in batch.items()}
    labels = arguments.pop("labels")
    arguments["attention_mask"] = padded([np.ones_like(ids) for ids in batch["input_ids"]], 0)
    logits = reference(**arguments).logits
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def padded(rows: list[Ids], fill: int) -> torch.Tensor:
    """Pad sequences to (B, longest)."""
    tensors = [torch.from_numpy(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)


def deviation(losses: list[tuple[float, float]]) -> float:
    """Return the largest difference over all steps, relative to the loss of transformers."""
    return max(abs(ours - theirs) / theirs for ours, theirs in losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=LEARNERS, default=list(LEARNERS), help="some of the models")
    parser.add_argument("--steps", type=int, default=200, help="how many, of 16 sequences each")
    arguments = parser.parse_args()
    table = Table("model", "first loss", "last loss", "of transformers", "largest deviation of a step")
    found = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            run = steps(LEARNERS[name], Path(folder))
            losses = [next(run) for _ in range(arguments.steps)]
        (first, _), (ours, theirs) = losses[0], losses[-1]
        table.add_row(name, f"{first:.4f}", f"{ours:.4f}", f"{theirs:.4f}", f"{100 * deviation(losses):.4f} %")
        found[name] = {"losses": losses, "deviation": deviation(losses)}
    Console(width=120).print(table)
    versions = {package.__name__: package.__version__ for package in (torch, transformers)}
    print(json.dumps({"title": f"Learning, {arguments.steps} steps", "models": found, "versions": versions}))


if __name__ == "__main__":
    main()
