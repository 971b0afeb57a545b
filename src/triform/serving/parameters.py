"""Parameters of a body that are options of a task by their names."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from triform.generation.config import SETTINGS
from triform.serving.body import check_known
from triform.tasks import Task
from triform.tasks.generative.generative_task import GenerativeTask

NOT_FOR_CALLERS = {"token_budget"}
KWARGS = "generate_kwargs"


def options_of(kind: type[Task[Any, Any]], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters as options of a kind of task; a setting of generation without an option is one of its kwargs.

    Raises:
        ApiError: naming a parameter that the task has not.
    """
    given = dict(parameters)
    own = {option.name for option in fields(kind.options_type)} - NOT_FOR_CALLERS
    if issubclass(kind, GenerativeTask):
        others = {name: given.pop(name) for name in list(given) if name in SETTINGS and name not in own}
        known = given.get(KWARGS, {})
        if others and isinstance(known, Mapping):
            given[KWARGS] = {**others, **known}
    check_known(given, own, "parameters")
    return given
