"""`triform serve`: models over HTTP."""

import logging
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from triform.cli.options import set_parameters
from triform.cli.parameters import Debug, Dtype, Engine
from triform.errors import InputError
from triform.serving.settings import Settings

if TYPE_CHECKING:
    from triform.serving.models import Registry

DOCS = "docs/serving.md"
NEEDED = ("uvicorn", "httptools", "starlette", "msgspec", "orjson", "prometheus_client")
EXAMPLES = {
    "text-generation": ("/v1/completions", '{{"model": "{model}", "prompt": "Once upon a time"}}'),
    "text-classification": ("/pipeline/text-classification", '{{"model": "{model}", "inputs": "A fine day."}}'),
    "sentence-embedding": ("/v1/embeddings", '{{"model": "{model}", "input": "A cat sat."}}'),
}
"""Task → path and body of a request for the banner; other tasks have `/pipeline/TASK`."""

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]MODEL",
        help="Folders or Hub ids; without any, the small models that ship with Triform.",
        show_default=False,
        envvar="TRIFORM_SERVE_MODELS",
    ),
]
MainTask = Annotated[
    str | None,
    typer.Option(
        envvar="TRIFORM_SERVE_TASK",
        help="The task of requests that name none, for a model that can do several.",
        show_default=False,
    ),
]


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the defaults of all options from a TOML file.

    Raises:
        InputError: the file cannot be read, or has an unknown key.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not TOML: {error}.") from error
    known = {"models", "task", "engine", "dtype", *(each.name for each in fields(Settings))}
    if unknown := sorted(set(values) - known):
        raise InputError(f"--config {path}: unknown {', '.join(unknown)}. Known are {', '.join(sorted(known))}.")
    context.default_map = values
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        callback=_read_config,
        is_eager=True,
        envvar="TRIFORM_SERVE_CONFIG",
        help="A TOML file of these options, with _ in place of -; options and the environment go before it.",
        show_default=False,
    ),
]


def serve(**given: Any) -> None:
    """Serve models over HTTP, to the clients of OpenAI, Hugging Face, Cohere and others. Needs triform[serve].

    Every option has an environment variable TRIFORM_SERVE_NAME, and a key in the file of --config.

    Example: triform serve sentence-transformers/all-MiniLM-L6-v2 --port 8080
    """
    if missing := [name for name in NEEDED if not find_spec(name)]:
        raise InputError(f"triform serve needs {', '.join(missing)}. Install triform[serve].")
    from triform.serving.models import load_all
    from triform.serving.server import Server

    settings = Settings(**{each.name: _value(given[each.name]) for each in fields(Settings)})
    settings.check()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    loading = {name: given[name] for name in ("task", "engine", "dtype")}
    server = Server(
        settings=settings,
        load=lambda: load_all(given["models"] or (), **loading),
        on_ready=lambda registry, address: print_banner(registry, address, settings),
    )
    code = server.run()
    if code:
        raise typer.Exit(code)


def print_banner(registry: "Registry", address: str, settings: Settings) -> None:
    """Tell what is served, with a request that works."""
    print(f"Triform serves {address}", file=sys.stderr)
    for served in registry.models.values():
        print(f"  {served.name}: {', '.join(served.tasks)}", file=sys.stderr)
    served = next(iter(registry.models.values()))
    task = served.main_task.name
    path, body = EXAMPLES.get(task, (f"/pipeline/{task}", '{{"model": "{model}", "inputs": "A fine day."}}'))
    key = " -H 'Authorization: Bearer KEY'" if settings.api_key else ""
    print(
        f"Try: curl {address}{path} -H 'Content-Type: application/json'{key} -d '{body.format(model=served.name)}'",
        f"Routes: {address}/openapi.json. Documentation: {DOCS}",
        sep="\n",
        file=sys.stderr,
        flush=True,
    )
    if settings.host not in ("127.0.0.1", "localhost", "::1") and not settings.api_key:
        print(
            f"warning: {settings.host} can be reached from other machines, and no --api-key is set.",
            file=sys.stderr,
            flush=True,
        )


def _value(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def _setting_parameters() -> Mapping[str, tuple[Any, Any]]:
    hints = get_type_hints(Settings)
    parameters: dict[str, tuple[Any, Any]] = {}
    for each in fields(Settings):
        flag = f"--{each.name.replace('_', '-')}"
        is_list = isinstance(each.default, tuple)
        option = typer.Option(
            flag,
            help=each.metadata["help"] + (" Repeatable." if is_list else ""),
            envvar=f"TRIFORM_SERVE_{each.name.upper()}",
            show_default=not is_list and each.default is not None,
        )
        kind = list[str] if is_list else hints[each.name]
        parameters[each.name] = (Annotated[kind, option], [] if is_list else each.default)
    return parameters


set_parameters(
    serve,
    {
        "models": (Models, None),
        "config": (Config, None),
        "task": (MainTask, None),
        "engine": (Engine, "auto"),
        "dtype": (Dtype, "auto"),
        **_setting_parameters(),
        "debug": (Debug, False),
    },
)
