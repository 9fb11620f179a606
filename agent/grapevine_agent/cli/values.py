"""Values that need no conversion: what was not given, and words that stay words.

Typer has Pydantic look at every value, at the defaults of options that were not given, too. To load it takes as long as
all else that a short command does, and 12 MB. A default is right as its function has it, a word that is to be a word is
one already, and of a file that can be read there is nothing to complain; whatever else has to be converted or held
against bounds, Typer converts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command that spares such values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As its parent, each with what it does to a value."""
        return [_spared(each) for each in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of commands, whose own options spare such values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As its parent, each with what it does to a value."""
        return [_spared(each) for each in super().get_params(ctx)]


def spare(app: typer.Typer) -> None:
    """Have all that is attached be made as these."""
    for command in app.registered_commands:
        command.cls = Command if command.cls in (None, TyperCommand) else command.cls
    for group in app.registered_groups:
        group.cls = group.cls if isinstance(group.cls, type) else Group
        if group.typer_instance is not None:
            spare(group.typer_instance)


def _spared(parameter: Any) -> Any:
    if "process_value" not in vars(parameter):  # each is asked for more than once
        parameter.process_value = _sparing(parameter, parameter.process_value)
    return parameter


def _sparing(parameter: Any, convert: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A parameter's `process_value` that calls the one it had, `convert`, where there is something to convert."""

    def process_value(ctx: Any, value: Any) -> Any:
        if value is None and parameter.required:
            return convert(ctx, value)  # which says that it is missing
        if _was_given(parameter, ctx):
            value, is_whole = _plainly(parameter, value)
            if not is_whole:
                return convert(ctx, value)
        return parameter.callback(ctx, parameter, value) if parameter.callback is not None else value

    return process_value


def _was_given(parameter: Any, ctx: Any) -> bool:
    """Whether the value comes from the command line or the environment, and not from the function's signature."""
    return getattr(ctx.get_parameter_source(parameter.name), "name", "") != "DEFAULT"


def _plainly(parameter: Any, value: Any) -> tuple[Any, bool]:
    """The value, and whether it is what the command is to have: a word, or a file that is there and can be read."""
    described = getattr(parameter, "type_descriptor", None)  # Typer of old has none
    wanted, about = getattr(described, "annotation", None), getattr(described, "parameter_info", None)
    if about is None or about.parser is not None:
        return value, False
    if wanted == list[str]:
        return value, all(type(each) is str for each in value)
    if type(value) is not str:
        return value, False
    if wanted is str:
        return value, True
    is_plain = not (about.writable or about.resolve_path) and about.file_okay and about.path_type is None
    if wanted is Path and is_plain and Path(value).is_file() and os.access(value, os.R_OK):
        return Path(value), True
    return value, False
