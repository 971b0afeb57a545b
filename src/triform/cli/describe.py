"""`triform describe MODEL`: what a model is, how large, where each parameter came from, and the use of each file."""

import json as json_library
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from triform.cli.file_use import FileUse, list_files
from triform.cli.parameters import Adapter, Debug, Json, ModelArgument, Revision
from triform.cli.streams import printable
from triform.model import Blueprint, read_blueprint


def describe(
    model: ModelArgument,
    json: Json = False,
    revision: Revision = None,
    adapter: Adapter = None,
    debug: Debug = False,
) -> None:
    """Show a model's resolved spec, its parameter count, the tensor behind each parameter, and the use of each file.

    Loads no weights. Of a settings file, keys are followed, checked to be what Triform implements, or harmless.

    Example: triform describe MODEL
    """
    blueprint = read_blueprint(model, revision=revision, adapter=adapter)
    if json:
        typer.echo(json_library.dumps(_as_json(blueprint), ensure_ascii=False, indent=2))
        return
    # Names of parameters are wider than a narrow terminal; a pipe gets them whole.
    console = Console() if Console().is_terminal else Console(width=180)
    tree = Tree(f"[bold]{_plain_text(blueprint.checkpoint.source)}[/] {blueprint.checkpoint.revision or ''}")
    _grow(tree, "form", blueprint.spec.form)
    _grow(tree, "head", blueprint.spec.head)
    console.print(tree)
    console.print(f"\n{blueprint.num_parameters:,} parameters\n")
    table = Table("parameter", "shape", "dtype", "tensor in the checkpoint", "file")
    for row in _parameters(blueprint):
        shape = " × ".join(map(str, row["shape"]))
        table.add_row(row["name"], shape, row["dtype"], _plain_text(row["tensor"]), _plain_text(row["file"]))
    console.print(table)
    if blueprint.assignment.unused:
        console.print(f"\nNot used by this model: {_plain_text(', '.join(blueprint.assignment.unused))}")
    table = Table("file", "use", "keys")
    for own in list_files(blueprint):
        table.add_row(_plain_text(own.file), own.use, "\n".join(map(_plain_text, _lines(own))))
    console.print(table)


def _plain_text(text: str) -> str:
    """Escape text of a model's files: markup, and control characters."""
    return escape(printable(text))


def _lines(own: FileUse) -> Iterator[str]:
    for use, keys in own.keys.items():
        yield f"{use}: {', '.join(keys)}"


def _parameters(blueprint: Blueprint) -> Iterator[dict[str, Any]]:
    for name, source in blueprint.assignment.sources.items():
        info = blueprint.tensors[source.tensor]
        change = " + a change of the adapter" if name in blueprint.updates else ""
        yield {
            "name": name,
            "shape": list(blueprint.declared[name].shape),
            "dtype": str(info.format or info.dtype),
            "tensor": f"{source}{change}",
            "file": info.file,
        }


def _as_json(blueprint: Blueprint) -> dict[str, Any]:
    return {
        "source": blueprint.checkpoint.source,
        "revision": blueprint.checkpoint.revision,
        "spec": _plain(blueprint.spec),
        "num_parameters": blueprint.num_parameters,
        "parameters": list(_parameters(blueprint)),
        "unused": list(blueprint.assignment.unused),
        "files": [asdict(own) for own in list_files(blueprint)],
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {"type": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def _grow(tree: Tree, name: str, value: Any) -> None:
    """Add a part of the spec to a tree; blocks in a row that are alike become one branch."""
    if is_dataclass(value):
        simple = [f"{f.name} {_short(v)}" for f in fields(value) if _is_simple(v := getattr(value, f.name))]
        branch = tree.add(f"{name}: [bold]{type(value).__name__}[/]  [dim]{' · '.join(simple)}[/]")
        for f in fields(value):
            if not _is_simple(inner := getattr(value, f.name)):
                _grow(branch, f.name, inner)
    elif isinstance(value, tuple):
        first = 0
        for index, item in enumerate(value):
            if index + 1 == len(value) or value[index + 1] != item:
                places = str(index) if index == first else f"{first}–{index}"
                if isinstance(item, tuple):
                    branch = tree.add(f"{name} {places}")
                    for step in item:
                        _grow(branch, "step", step)
                else:
                    _grow(tree, f"{name} {places}", item)
                first = index + 1
    else:
        tree.add(f"{name}: {_short(value)}")


def _is_simple(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(item, str) for item in value)
    return not is_dataclass(value)


def _short(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else list(value)
        shown = ", ".join(items[:8]) + (f" … ({len(items)})" if len(items) > 8 else "")
        return _plain_text(shown) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
