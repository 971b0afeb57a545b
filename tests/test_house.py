"""The house: public names, imports, sizes of files, words, and the truth of README and docs."""

import ast
import doctest
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import triform
from triform import errors
from triform.families import Family, built_in_families

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "triform"
FILES = sorted(SOURCE.rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
STOP_WORDS = tomllib.loads((ROOT / "tests" / "stop_words.toml").read_text())


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


def test_the_tree_in_the_docs_is_the_tree() -> None:
    """The tree names every room of the package and every page, and every name in the tree exists."""
    block = (ROOT / "docs" / "architecture.md").read_text().split("<!-- tree -->")[1].split("```")[1]
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
    assert {*rooms, *(ROOT / "docs").glob("*.md")} <= set(named)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 700


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_examples_have_the_output_that_is_shown(page: str) -> None:
    outcome = doctest.testfile(str(ROOT / page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_test_named_as_a_guarantee_exists() -> None:
    links = re.findall(r"\[`(\w+)`\]\(([^)]+)\)", (ROOT / "docs" / "guarantees.md").read_text())
    assert len(links) > 50
    assert [name for name, path in links if f"def {name}(" not in (ROOT / "docs" / path).read_text()] == []


def test_every_term_of_the_glossary_is_found() -> None:
    """A line of source has the term, and the file that the glossary names has our name."""
    rows = re.findall(r"\| (.+) \| .+ \| `(.+)` \| \[.+\]\((.+)\) \|", (ROOT / "docs" / "glossary.md").read_text())
    assert len(rows) > 60
    kernels = [path for path in (ROOT / "kernels").rglob("*") if path.suffix in (".h", ".cpp", ".inl")]
    source = "\n".join(path.read_text() for path in FILES + kernels).lower()
    assert [term for term, _, _ in rows if not re.search(rf"\b{re.escape(term.lower())}s?\b", source)] == []
    assert [name for _, name, path in rows if name not in (ROOT / "docs" / path).read_text()] == []


def first_lines(path: Path) -> Iterator[str]:
    """Yield the first line of each docstring of a public function or class."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring.splitlines()[0]


@pytest.mark.parametrize("tree", ["src", "tests"])
def test_words_are_plain(tree: str) -> None:
    """Docstrings open with a subject or a verb, and vague words are rare in docstrings, comments and messages."""
    files = sorted((ROOT / tree).rglob("*.py"))
    lines = [line for path in files for line in first_lines(path)]
    pronoun = re.compile(rf"(?i)\b(?:{'|'.join(STOP_WORDS['pronouns'])})\b")
    vague = re.compile(rf"(?i)\b(?:{'|'.join(STOP_WORDS['vague'])})\b")
    relative = [line for line in lines if line.split()[0] in STOP_WORDS["openings"]]
    pronouns = [line for line in lines for _ in pronoun.findall(line)]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for _ in vague.findall(line)
    ]
    assert len(relative) <= 0.03 * len(lines), relative
    assert len(pronouns) <= 0.04 * sum(len(line.split()) for line in lines), pronouns
    assert len(found) <= 10, "\n".join(found)
