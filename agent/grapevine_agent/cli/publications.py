"""What a task's folder was published as: a folder may stand for its newest version.

`grapevine task publish` and `revise` note the id in FOLDER/published.json, the newest last. Where a task is asked for,
the folder may then be written for it: `grapevine task watch wine/`, `grapevine task revise wine/ --parent wine/`. It is
no secret, and no more than a note: who deletes it names the task by its id.

Who begins a task with a copy of another's folder copies the note, too. So it says which folder it was written in, and
counts nowhere else while that folder is there with the same note. A folder that was moved keeps its note. What earlier
versions wrote has no folder; there the name tells, which a copy has in its task.toml, and the note has not.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

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
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RequestError(f"{path} cannot be read ({why}): delete it, and name the task by its id") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) and _is_id(each.get("task")) for each in found):
        raise RequestError(f"{path} is not what publishing leaves there: delete it, and name the task by its id")
    return found


def copied_from(folder: Path) -> str:
    """Whose the note in a folder is, in words for its owner, where it is another task's; empty where it is its own.

    Raises RequestError as `published_as` does.
    """
    entries = published_as(folder)
    if not entries:
        return ""
    newest = entries[-1]
    task, where = str(newest["task"]), newest.get("folder")
    if not isinstance(where, str):
        now, then = _name_in(folder), newest.get("name")
        return f"another task, {then}" if isinstance(then, str) and now and now != then else ""
    return where if not _is_same(folder, Path(where)) and _has_published(Path(where), task) else ""


def note(folder: Path, *, task: str, name: str, version: int) -> str:
    """Remember what was published, beside what this folder was published as. Why that could not be; empty if it was."""
    before = [] if copied_from(folder) else published_as(folder)
    entry = {"task": task, "name": name, "version": version, "folder": str(folder.resolve())}
    path = folder / FILE
    part = path.with_name(f"{FILE}.part")
    try:
        part.write_text(json.dumps([*before, entry][-_MOST:], indent=1) + "\n", encoding="utf-8")
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
    entries = published_as(folder)
    if entries and not (other := copied_from(folder)):
        return str(entries[-1]["task"])
    if entries and is_path:
        raise RequestError(
            f"{word} was not published itself: its {FILE} is that of {other}, and came along as it was copied; "
            f"delete {folder / FILE}, and name the task by its id or name"
        )
    if is_path:
        raise RequestError(f"{word} is a folder that nobody has published from here: name the task by its id or name")
    return word


def _is_same(folder: Path, other: Path) -> bool:
    with suppress(OSError):
        return folder.samefile(other)
    return False


def _has_published(folder: Path, task: str) -> bool:
    """Whether the note in another folder names this task: it may have been moved since, or be another's to read."""
    with suppress(RequestError):
        return any(each["task"] == task for each in published_as(folder))
    return False


def _name_in(folder: Path) -> str:
    """What the task is called in its task.toml now; empty if that does not say."""
    with suppress(OSError, ValueError):
        import tomllib

        described = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8")).get("task")
        name = described.get("name") if isinstance(described, dict) else None
        return name if isinstance(name, str) else ""
    return ""


def _is_id(value: object) -> bool:
    from grapevine_proto.topics import is_task_id

    return isinstance(value, str) and is_task_id(value)
