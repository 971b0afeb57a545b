"""`triform quantize MODEL`: weights in integers, and the loss."""

import json as json_library
import sys
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from triform.cli.parameters import Adapter, Debug, Engine, Json, ModelArgument, Revision
from triform.engines import FORMATS, Format
from triform.errors import InputError
from triform.hub import MODEL
from triform.inputs import Tokenizer
from triform.model import load
from triform.model.export import quantize_checkpoint
from triform.model.fidelity import SAMPLE, Fidelity, compare_models, make_batches, num_parameter_bytes


class Integers(StrEnum):
    """The formats that weights can be quantized to."""

    INT8 = Format.INT8.name
    INT4 = Format.INT4.name


Wanted = Annotated[
    Integers, typer.Option("--format", "-f", help="int8: a scale for each output channel. int4: for each 32 inputs.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write it.", show_default=False)
]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Write nothing; say what --dtype would cost.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint that is in --output.")]
Text = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Compare on these lines, not on a few built-in sentences. Repeatable.", show_default=False
    ),
]


def quantize(
    model: ModelArgument,
    format: Wanted,
    output: Output = None,
    report_only: ReportOnly = False,
    overwrite: Overwrite = False,
    text: Text = None,
    engine: Engine = "auto",
    revision: Revision = None,
    adapter: Adapter = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model with its linears in integers, and report the loss: both models read the same text.

    The result is a checkpoint that transformers reads too, with compressed-tensors; its language head stays in floats.
    Any command quantizes while it loads as well, without a second copy on disk: --dtype int8, head included.

    Example: triform quantize MODEL --format int8 --output FOLDER
    """
    if report_only == (output is not None):
        raise typer.BadParameter("expected one of --output FOLDER and --report-only.")
    if output is not None and not overwrite and (output / MODEL.config).is_file():
        raise InputError(f"{output} holds a checkpoint. Name another folder, or pass --overwrite to replace it.")
    texts = SAMPLE if text is None else tuple(line for path in text for line in _lines(path))
    original = load(model, engine=engine, revision=revision, adapter=adapter)
    batches = make_batches(texts, Tokenizer.from_checkpoint(original.checkpoint), original)
    if output is None:
        quantized = load(model, engine=engine, dtype=format, revision=revision, adapter=adapter)
    else:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            steps = bar.add_task("Quantizing", total=len(original.parameters))
            quantize_checkpoint(
                original.blueprint, FORMATS[format], output, before_tensor=lambda name: bar.advance(steps)
            )
        quantized = load(output, engine=engine)
    with Console(stderr=True).status("Comparing"):
        fidelity = compare_models(original, quantized, batches)
    sizes = num_parameter_bytes(original), num_parameter_bytes(quantized)
    if json:
        known = {"format": format, "bytes_before": sizes[0], "bytes_after": sizes[1], **asdict(fidelity)}
        typer.echo(json_library.dumps({**known, "output": None if output is None else str(output)}))
    else:
        _print(fidelity, sizes, text is None, len(texts))
        typer.echo("Nothing was written." if output is None else f"Written: {output}")


def _lines(path: Path) -> Iterator[str]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--text {path} cannot be read: {error}.") from error
    if not lines:
        raise InputError(f"--text {path} holds no text. Name a file with a text on each line.")
    yield from lines


def _print(fidelity: Fidelity, sizes: tuple[int, int], is_sample: bool, num_texts: int) -> None:
    table = Table(show_header=False, box=None)
    before, after = sizes
    table.add_row("weights", f"{before / 1e6:,.1f} MB → {after / 1e6:,.1f} MB ({after / before:.0%})")
    table.add_row("compared on", f"{fidelity.num_tokens:,} tokens of {num_texts:,} {'built-in ' * is_sample}texts")
    table.add_row("hidden states", f"cosine {fidelity.mean_cosine:.5f}, at worst {fidelity.worst_cosine:.5f}")
    if fidelity.divergence is not None:
        table.add_row("logits", f"KL {fidelity.divergence:.5f} nats a token")
        table.add_row("greedy token", f"the same for {fidelity.agreement:.1%}")
    if fidelity.perplexity_before is not None:
        table.add_row("perplexity", f"{fidelity.perplexity_before:,.3f} → {fidelity.perplexity_after:,.3f}")
    Console().print(table)
