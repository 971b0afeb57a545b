"""Families of third-party packages: installed packages in a separate process, and every kind of fault."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import triform
from tests.weights import edit_config, make

ROOT = Path(__file__).parents[2]
LOAD = """
import json, sys
import triform
try:
    model = triform.load(sys.argv[1])
    print(json.dumps(model(triform.Batch.from_ids([[5, 6, 7]])).logits.tolist()))
except triform.TriformError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def example() -> tuple[str, str]:
    """Return the module and the lines of pyproject.toml in docs/adding-a-family.md."""
    page = (ROOT / "docs" / "adding-a-family.md").read_text()
    [module] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [project] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    return module, project


def install(site: Path, code: str, *lines: str, name: str = "triform-plain") -> None:
    """Write the files of an installed package with one module and the entry points `lines`."""
    module = name.replace("-", "_")
    info = site / f"{module}-1.2.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join(["[triform.families]", *lines]) + "\n")


def load(folder: Path, *sites: Path) -> list[object]:
    path = os.pathsep.join(map(str, (*sites, *filter(None, [os.environ.get("PYTHONPATH")]))))
    command = [sys.executable, "-c", LOAD, str(folder)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_the_example_of_the_docs_reads_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make("llama-lm", folder)
    module, project = example()
    [line] = re.findall(r"^plain = .*$", project, re.MULTILINE)
    install(tmp_path / "site", module, line.replace('"', ""))
    expected = triform.load(folder)(triform.Batch.from_ids([[5, 6, 7]])).logits
    edit_config(folder, model_type="plain", architectures=["PlainForCausalLM"])
    np.testing.assert_array_equal(np.array(load(folder, tmp_path / "site"), np.float32), expected)
    kind, message = load(folder)
    assert kind == "UnsupportedModelError"
    assert "model_type 'plain' is not supported. This version of Triform reads" in str(message)


FAULTS = {
    "no family": ("FAMILY = 3", "is not a triform.families.Family, but int"),
    "another name": ("from triform.families.bert import FAMILY", "is of model_type 'bert'"),
    "no such name": ("", "cannot be loaded: AttributeError"),
    "broken": ("1 / 0", "cannot be loaded: ZeroDivisionError: division by zero. Repair that package"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_broken_package_is_named(kind: str, tmp_path: Path) -> None:
    code, expected = FAULTS[kind]
    install(tmp_path / "site", code, "plain = triform_plain:FAMILY")
    (tmp_path / "config.json").write_text('{"model_type": "plain"}')
    kind, message = map(str, load(tmp_path, tmp_path / "site"))
    assert kind == "UnsupportedModelError"
    assert f"The family plain = 'triform_plain:FAMILY' of triform-plain 1.2 {expected}" in message


def test_packages_that_claim_the_same_are_refused_and_all_are_listed(tmp_path: Path) -> None:
    first, second, rival = (tmp_path / name for name in ("first", "second", "rival"))
    install(first, "", "plain = triform_plain:FAMILY", "other = triform_plain:FAMILY")
    install(second, "", "plain = triform_twin:FAMILY", name="triform-twin")
    install(rival, "", "bert = triform_rival:FAMILY", name="triform-rival")
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "plain"}')
    message = str(load(tmp_path, first, second)[1])
    assert "offered by several packages: plain = 'triform_plain:FAMILY' of triform-plain 1.2; plain = " in message
    message = str(load(tmp_path, rival)[1])
    assert "a family of its own for what these packages claim: bert = 'triform_rival:FAMILY' of" in message
    config.write_text('{"model_type": "unknown"}')
    assert str(load(tmp_path, first)[1]).endswith("xlm-roberta, and of other packages other, plain.")
