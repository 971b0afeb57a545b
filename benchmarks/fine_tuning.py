"""Fine-tuning MiniLM-L6 beside the Trainer of transformers: the same rows, the same settings, each run in its own process.

TREC-6 and SST-2 by accuracy, wikigold by the F1 of entities (every fifth sentence is the test). `--pairs` is the number of
seeds. A time is that of an epoch without evaluations; memory is the peak while training less what the imports take.

What limits it: 6 × parameters × tokens operations, 60 to 70 % of the time in matrix products. What is saved is padding,
which is half of a batch of mixed lengths.

    python -m benchmarks.fine_tuning DATA [--only trec …] [--pairs SEEDS] [--quick] [--keep]
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.checkpoints import Workspace, workspace
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import OURS, Comparison, interleave
from benchmarks.report import Arguments, Report, parse_arguments
from benchmarks.trainers import SETTINGS, Outcome
from triform.training.rows import Files, RowFormat
