"""What a task's folder was published as: a folder may stand for its newest version.

`grapevine task publish` and `revise` note the id in FOLDER/published.json, the newest last. Where a task is asked for,
the folder may then be written for it: `grapevine task watch wine/`, `grapevine task revise wine/ --parent wine/`. It is
no secret, and no more than a note: who deletes it names the task by its id.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from grapevine_agent.requests.naming import is_task_id
from grapevine_proto.errors import RequestError

FILE: Final = "published.json"
_MOST: Final = 1_000


def published_as(folder: Path) -> list[dict[str, Any]]:
    """What the folder was published as, the newest last: `task`, `name`, `version`. Raises RequestError if damaged."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read ({error}): delete it, and name the task by its id") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) and _is_id(each.get("task")) for each in found):
        raise RequestError(f"{path} is not what publishing leaves there: delete it, and name the task by its id")
    return found


def note(folder: Path, *, task: str, name: str, version: int) -> str:
    """Remember what was published. Why it could not be written down; empty if it was."""
    entries = [*published_as(folder), {"task": task, "name": name, "version": version}][-_MOST:]
    path = folder / FILE
    part = path.with_name(f"{FILE}.part")
    try:
        part.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        return f"{path} cannot be written ({error.strerror}): name the task by its id from now on"
    return ""


def meant(word: str) -> str:
    """The id of the newest task that a folder was published as; any other word as it is.

    Raises RequestError for the path of a folder that was not published from here.
    """
    folder = Path(word)
    is_path = os.sep in word or word in (".", "..")
    if not word or not folder.is_dir():
        return word
    if entries := published_as(folder):
        return str(entries[-1]["task"])
    if is_path:
        raise RequestError(f"{word} is a folder that nobody has published from here: name the task by its id or name")
    return word


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_task_id(value)
