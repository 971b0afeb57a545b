"""Options of generative tasks, derived from the settings of generation."""

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from triform.errors import InputError
from triform.generation.config import SETTINGS, Setting, unknown_setting
from triform.tasks.options import option
from triform.tasks.text_task import TextOptions

T = TypeVar("T", bound=TextOptions)

OPTIONS: Mapping[str, Setting] = {name: setting for name, setting in SETTINGS.items() if setting.is_option}
"""Settings of generation that are options of every generative task."""


def with_settings(kind: type[T]) -> type[T]:
    """Add an option for each of `OPTIONS` to a class of options; None leaves the model's setting."""
    made = make_dataclass(
        kind.__name__, map(_make_field, OPTIONS.values()), bases=(kind,), frozen=True, kw_only=True, slots=True
    )
    made.__module__, made.__doc__ = kind.__module__, kind.__doc__
    return made


def _make_field(setting: Setting) -> tuple[str, Any, Any]:
    """Make the name, type and default of an option."""
    choices = tuple(setting.kind) if isinstance(setting.kind, type) and issubclass(setting.kind, StrEnum) else ()
    kind = (str if choices else setting.kind) | None
    return setting.name, kind, option(None, setting.help, minimum=setting.rule.minimum, choices=choices)


@with_settings
@dataclass(frozen=True, kw_only=True, slots=True)
class SettingOptions(TextOptions):
    """Options for settings of generation."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationOptions(SettingOptions):
    """Options of every generative task; without an option the model's own setting holds."""

    generate_kwargs: Mapping[str, Any] | None = option(
        None, "Any other setting of generation by its name in the field, as a JSON object."
    )

    def settings(self) -> dict[str, Any]:
        """Collect the options that are set, as settings of `Model.generate`.

        Raises:
            InputError: `generate_kwargs` has an unknown setting, or a setting that an option sets too.
        """
        own = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        others = self.generate_kwargs or {}
        for name in others:
            if name not in SETTINGS:
                raise InputError(f"generate_kwargs: {unknown_setting(name)}")
            if name in own:
                raise InputError(f"generate_kwargs: {name} is also an option, {name}={own[name]!r}. Set only one.")
        return {**others, **own}
