"""The structure of the package: public names, import weight, layers, and a true README."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import triform
from triform import errors
from triform.families import Family, built_in_families

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "triform"
FILES = sorted(SOURCE.rglob("*.py"))


def test_public_names() -> None:
    assert set(triform.__all__) == {
        "Batch",
        "Model",
        "TriformError",
        "__version__",
        "load",
        "pipeline",
        "train",
    }
    assert all(hasattr(triform, name) for name in triform.__all__)


def test_a_model_runs_without_torch_any_extra_or_what_it_does_not_need(minilm: Path) -> None:
    script = f"""
import sys, triform
triform.pipeline("sentence-embedding", model={str(minilm)!r})(["a text", "another"])
heavy = {{"torch", "transformers", "sentence_transformers", "scipy", "pandas", "PIL", "starlette", "jinja2", "typer",
         "rich", "huggingface_hub", "sentencepiece", "numpy.random", "triform.tasks.generative",
         "triform.inputs.chat"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_error_stands_in_the_drawn_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TriformError)]
    for kind in kinds:
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


def model_names(tree: ast.Module) -> Iterator[str]:
    """Find names of models in code: identifiers and strings, docstrings left out."""
    words = "|".join(family.model_type for family in built_in_families())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Constant) and id(node) not in prose:
            text = str(getattr(node, "id", getattr(node, "attr", getattr(node, "value", ""))))
            # Checkpoint formats define the file names.
            if re.search(rf"(?i)\b({words})\b", text.replace("_", " ")) and not text.endswith(".json"):
                yield text


@pytest.mark.parametrize("path", [path for path in FILES if "families" not in path.parts], ids=str)
def test_no_model_is_named_outside_families(path: Path) -> None:
    # Rotary scalings have the name of the first model with the scaling.
    assert [name for name in model_names(ast.parse(path.read_text())) if "llama3" not in name.lower()] == []


@pytest.mark.parametrize("family", built_in_families(), ids=lambda family: family.model_type)
def test_recipes_are_short(family: Family) -> None:
    path = SOURCE / "families" / f"{family.model_type.replace('-', '_')}.py"
    assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 80, node.name


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """The tree lists every room of the package, and every entry exists."""
    block = (ROOT / "README.md").read_text().split("<!-- tree -->")[1].split("```")[1]
    named: list[Path] = []
    folders: list[tuple[int, Path]] = []
    for line in block.splitlines()[1:]:
        indent = len(line) - len(line.lstrip())
        for name in re.split(r" {2,}", line.strip())[0].split():
            while folders and folders[-1][0] >= indent and name.endswith("/"):
                folders.pop()
            path = next((folder for level, folder in reversed(folders) if level < indent), ROOT) / name
            assert path.exists(), path
            named.append(path)
            if name.endswith("/"):
                folders.append((indent, path))
    rooms = [path for path in SOURCE.iterdir() if path.name not in ("__pycache__", "py.typed", "__main__.py")]
    assert set(rooms) <= set(named)
