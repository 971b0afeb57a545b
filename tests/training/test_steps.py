"""Step by step as transformers learns: a beginning of `benchmarks/learning.py`."""

from itertools import islice
from pathlib import Path

import pytest
from benchmarks.learning import LEARNERS, deviation, steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "marian", "t5", "gpt2"])
def test_the_first_steps_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    assert deviation(list(islice(steps(LEARNERS[name], tmp_path), 8))) < 1e-4
