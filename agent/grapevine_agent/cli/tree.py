"""The tree of commands, as much of it as a command line can need.

    grapevine                      no words, or --help: the names and first lines of all commands
      status, join, …              a command: its module alone is imported, its options alone are looked at
      task  watch, publish, …      a group: its module, and of its commands the one that is called
      demo, simulate, …            a command of an installed extension: the extensions
      another word                 a slip: the names of all commands, for what was meant is told

Typer looks at each parameter of each command that it is given, and a module's imports come on top: half of the time
that a short command takes, where all are attached. What is attached is the same as in the whole tree, so there is one
place that says what a command is called and takes: the command itself. Only which module attaches which names stands
here, and a test holds it against the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, cast

import typer
from typer.main import get_command_name

# In the order in which they are listed.
MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "agent_commands": ("agent", "server"),
    "doctor_commands": ("doctor",),
    "event_commands": ("events",),
    "service_commands": ("service",),
    "init_commands": ("init",),
    "owner_commands": ("status", "join", "leave", "forget", "id"),
    "profile_commands": ("profile",),
    "governor_commands": ("pause", "resume"),
    "peer_commands": ("peers",),
    "task_commands": ("task",),
    "review_commands": ("review",),
    "trust_commands": ("trust",),
    "app_commands": ("apply", "get", "explain", "delete"),
    "merge_commands": ("merge",),
    "broker_commands": ("broker",),
    "data_commands": ("data",),
    "dashboard_commands": ("dashboard",),
}
_MODULE_OF: Final = {name: module for module, names in MODULES.items() for name in names}


def is_ours(word: str) -> bool:
    """Whether it is a command of this package, so that no extension's can be meant."""
    return word in _MODULE_OF


def attach(app: typer.Typer, word: str = "") -> None:
    """Attach the commands of the module that has the command `word`, or all of ours."""
    for module in (_MODULE_OF[word],) if word else MODULES:
        _register_of(module)(app)


def has(app: typer.Typer, word: str) -> bool:
    """Whether a command or group of this name is attached."""
    return word in {_name_of(each) for each in (*app.registered_commands, *app.registered_groups)}


def outline(app: typer.Typer) -> None:
    """Leave of all commands what a list shows of them: the names and what they say of themselves."""
    for command in app.registered_commands:
        command.name, command.help = _name_of(command), command.help or command.callback.__doc__
        command.callback = _nothing
    for group in app.registered_groups:
        if (inner := group.typer_instance) is not None:
            inner.registered_commands.clear()
            inner.registered_groups.clear()


def keep(app: typer.Typer, words: Sequence[str]) -> None:
    """Take away what is not called. Where the next word is no command, all stay: they are listed, or suggested."""
    if not words or not has(app, words[0]):
        return
    app.registered_commands = [each for each in app.registered_commands if _name_of(each) == words[0]]
    app.registered_groups = [each for each in app.registered_groups if _name_of(each) == words[0]]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            keep(group.typer_instance, words[1:])


def _name_of(info: Any) -> str:
    """What a command or a group of Typer's is called: by a name of its own, or by its function's."""
    return cast(str, info.name or get_command_name(info.callback.__name__))


def _register_of(module: str) -> Callable[[typer.Typer], None]:
    return cast(Callable[[typer.Typer], None], import_module(f"grapevine_agent.cli.{module}").register)


def _nothing() -> None:
    """What an outline's commands would do: they are never called."""
