"""Recipes: known keys, values of the right kind, and sound recipes in the repository."""

from pathlib import Path

import pytest

from triform.data import FileFormat
from triform.errors import InputError
from triform.training.optimizer import Schedule
from triform.training.recipe import read_recipe
from triform.training.settings import parse_changes

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*ROOT.glob("recipes/*.toml"), *ROOT.glob("recipes/demo/*.toml")])
WHOLE = """
output = "out"
model = "org/name"
objective = {name = "causal-lm", max_length = 8}
data = {train = ["a.txt", "b.txt"], format = "txt"}
optimizer = {learning_rate = 1, schedule = "cosine"}
loop = {epochs = 2}
"""


def read(tmp_path: Path, text: str, *changes: str) -> object:
    (tmp_path / "recipe.toml").write_text(text)
    return read_recipe(tmp_path / "recipe.toml", parse_changes(changes))


def test_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(WHOLE)
    changes = ["optimizer.learning_rate=3e-5", "batches.batch_tokens=100", "model=folder/model", "data.folder = /data"]
    recipe = read_recipe(tmp_path / "recipe.toml", parse_changes(changes))
    assert (recipe.optimizer.learning_rate, recipe.optimizer.schedule) == (3e-5, Schedule.COSINE)
    assert (recipe.batches.batch_tokens, recipe.model, recipe.loop.epochs) == (100, "folder/model", 2.0)
    assert recipe.data.format is FileFormat.TXT
    files = recipe.data.files(recipe.data.train, tmp_path)
    assert files.all_paths() == [Path("/data/a.txt"), Path("/data/b.txt")]
    assert recipe.objective == {"name": "causal-lm", "max_length": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs=3", "recipe.toml: 'epochs' is not known. Known are objective, data"),
        ("loop.epoch=3", "recipe.toml: loop: 'epoch' is not known. Known are epochs"),
        ("loop.epochs=many", "loop: epochs = 'many': expected a number"),
        ("loop.epochs=-1", "loop: epochs = -1.0: expected more than 0"),
        ("loop.seed=1.5", "seed = 1.5: expected a whole number"),
        ("loop.autocast=float16", "autocast = float16: expected bfloat16"),
        ("optimizer.schedule=steep", "schedule = 'steep': expected one of linear, cosine, constant"),
        ("data.train=1", "train = 1: expected a text or a list or a table"),
        ("data.format=xml", "format = 'xml': expected one of txt"),
        ("config={a = 1}", "expected one of model, to begin with a checkpoint, and config"),
        ("tokenizer={algorithm = 'unigram'}", "tokenizer: 'vocab_size' is missing"),
        ("nothing", "--set nothing: expected KEY=VALUE"),
        ("model.x=1", "recipe.toml: model = {'x': 1}: expected a text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, WHOLE, change)
    assert message in str(raised.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened: No such file"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"recipe.toml is not valid TOML"):
        read(tmp_path, "a = ")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_repository_can_be_read(path: Path) -> None:
    assert read_recipe(path).data.train
    made = path.parent.name == "demo"  # by a command that also writes the data
    command = f"python -m recipes.demo {path.stem}" if made else f"triform train {path.relative_to(ROOT)}"
    assert command in path.read_text()
