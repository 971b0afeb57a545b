"""Matrix products alone, rows × in × out, in billions of operations per second (two for each multiply-add).

The weights are those of a model of BERT-base shape, through `engine.linear` with neither bias nor activation. Beside
them stands what this machine could do at most, by a kernel that only issues the instruction on all cores, if the
extension has one for the format; and in float32 torch, whose products are those of oneDNN or MKL.

    python -m benchmarks.products [--only int8 …] [--pairs N] [--quick] [--keep]
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks import ours
from benchmarks.cases import run_cases
from benchmarks.checkpoints import SHAPES, Workspace
from benchmarks.limits import arithmetic_peak
from benchmarks.measure import OURS, Comparison, compare, seconds
from benchmarks.report import Arguments

FORMATS = ("float32", "int8")
SIZES = ((512, 768, 3072), (2048, 768, 3072), (2048, 3072, 768))
CASES = [f"{format}-{'x'.join(map(str, size))}" for format in FORMATS for size in SIZES]
REPEATS = 10
"""Products in one value, so that it lasts tens of milliseconds."""


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Measure a size in a format."""
    format, _, sizes = case.partition("-")
    rows, in_, out = map(int, sizes.split("x"))
    if not ours.has(format):
        facts[f"{case}, {OURS}"] = f"left out: the engine has no {format} yet"
        return []
    name = "bert-base"
    if arguments.quick:
        name, rows = "bert-tiny", 32
        config = SHAPES[name].config
        pair = (config["hidden_size"], config["intermediate_size"])
        in_, out = pair if in_ < out else pair[::-1]
    x = np.random.default_rng(0).standard_normal((rows, in_), np.float32)
    operations = 2 * rows * in_ * out * REPEATS
    model = ours.load_encoder(place.checkpoint(name), format)
    product = ours.product(model, x, out)

    def rate(product: Callable[[], object]) -> float:
        return operations / seconds(lambda: [product() for _ in range(REPEATS)]) / 1e9

    runs: dict[str, Callable[[], float]] = {OURS: partial(rate, product)}
    if format == "float32":
        x_torch, weight_torch = torch.from_numpy(x), torch.randn(out, in_)
        runs["torch"] = partial(rate, lambda: torch.nn.functional.linear(x_torch, weight_torch))
    if arithmetic_peak(model.engine, format) is not None:
        runs["arithmetic limit"] = lambda: (arithmetic_peak(model.engine, format) or 0) / 1e9
    for run in runs.values():
        run()
    return [compare(case, runs, unit="billion/s", pairs=arguments.pairs)]


if __name__ == "__main__":
    run_cases(__doc__, CASES, "Matrix products", measure)
