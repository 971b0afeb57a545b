"""Train a model of the package from nothing: `python -m recipes.demo sentiment`, and likewise for the other three."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

import triform
from recipes.demo.data import CORPORA, write
from triform.cli.train import train
from triform.demo import DEMOS
from triform.replacing import write_json

HERE = Path(__file__).parent
BUILD = Path("build") / "demo"
"""Folder of the data for the recipes, relative to the root of the repository."""

WRITING = {"do_sample": True, "eos_token_id": 2, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 300}
"""Sampling settings of stories; greedy decoding would always tell the same story."""


def make(
    name: Annotated[str, typer.Argument(metavar="|".join(CORPORA), help="Which model.")],
    only_data: Annotated[bool, typer.Option("--only-data", help="Write the data and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training run that was stopped.")] = False,
) -> None:
    """Write the data, train the model, and put the model in the package, in float16."""
    if name not in CORPORA:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(CORPORA)}.")
    if not resume:
        write(name, BUILD / name)
    if only_data:
        return
    train(HERE / f"{name}.toml", resume=resume, overwrite=not resume)
    ship(name, BUILD / name / "model")


def ship(name: str, trained: Path) -> None:
    """Put a model in the package, in float16 and with the tokenizer on one line; the card stays."""
    folder, halves = DEMOS[name].folder, BUILD / name / "float16"
    triform.load(trained, dtype="float16", engine="reference").save(halves)
    tokenizer = halves / "tokenizer.json"
    packed = json.dumps(json.loads(tokenizer.read_text("utf-8")), ensure_ascii=False, separators=(",", ":"))
    tokenizer.write_text(packed, "utf-8")
    if name == "story":
        write_json(halves / "generation_config.json", WRITING)
    for file in halves.iterdir():
        shutil.copyfile(file, folder / file.name)


if __name__ == "__main__":
    typer.run(make)
