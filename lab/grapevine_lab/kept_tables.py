"""Tables of many runs, each of which is kept as JSON in a folder, so that a broken-off table goes on where it was."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console

from grapevine_proto.errors import ConfigError, GrapevineError
from grapevine_tasks.suggestions import near_to

Found = TypeVar("Found")  # what came of a run: a dataclass

console, progress = Console(highlight=False), Console(stderr=True, highlight=False)


def named(option: str, given: Collection[str], known: Collection[str]) -> list[str]:
    """What was given, each once. Raises BadParameter for what there is not."""
    for name in given:
        if name not in known:
            near = near_to(name, known)
            hint = f"did you mean {near}?" if near else f"choose of {', '.join(known)}"
            raise typer.BadParameter(f"{name!r} is not known; {hint}", param_hint=option)
    return list(dict.fromkeys(given))


def command_of(module: str) -> str:
    """The command that is running, for the top of its tables."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def tabulate(
    results: Iterator[Found],
    *,
    total: int,
    line_of: Callable[[Found], str],
    text_of: Callable[[list[Found]], str],
    out: Path,
    name: str,
) -> None:
    """Tell of each result as it comes; then print what is made of all, and write it to the file of this name.

    Ends the command, with the reason, where a run or the folder fails.
    """
    found: list[Found] = []
    try:
        for each in results:
            found.append(each)
            progress.print(f"{len(found)}/{total} {line_of(each)}", soft_wrap=True)
        text = text_of(found)
        (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        end(f"--out: {error.filename or out} cannot be written ({error.strerror}); give another folder")
    except GrapevineError as error:
        end(str(error))
    console.print(text, markup=False, soft_wrap=True)


def end(why: str) -> NoReturn:
    """End the command: what was asked for cannot be done."""
    progress.print("error:", why, style="red", soft_wrap=True, markup=False)
    raise typer.Exit(1)


def keep(path: Path, found: Any) -> None:
    """Keep what came of a run: a dataclass. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def kept(path: Path, found_of: Callable[[dict[str, Any]], Found]) -> Found | None:
    """What is kept of a run, made of its JSON; None where nothing is. Raises ConfigError if it is damaged."""
    try:
        return found_of(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); delete it, and it is run again") from None
