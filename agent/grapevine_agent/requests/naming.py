"""Which task, or which peer, is meant by what somebody wrote: one rule for every request.

Names are their authors' to choose, so a stranger may choose one that is taken, one that looks the same, or one
that is the beginning of another task's id. Ids are hashes: whole, an id means one thing for ever; its first
characters can be met by trying. Therefore:

- A whole id means that one, whatever the names are.
- The beginning of an id will do from `LEAST_TO_LOOK` characters on, and from `LEAST_TO_ACT` on where something is
  signed or decided. It is taken as it is written: no letter cases, no spaces around it, no patterns.
- A name must be written whole.
- What fits two things, or a name that looks like another one's, means neither. They are listed, with their ids.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from grapevine_agent.config.trust_file import PEER_ID
from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.printable import is_blank, look_alike, printable
from grapevine_proto.errors import RequestError, TaskError
from grapevine_proto.manifest_fields import MAX_NAME

LEAST_TO_LOOK: Final = 4
LEAST_TO_ACT: Final = 8
MAX_LISTED: Final = 10
_PEER_ID: Final = re.compile(PEER_ID)
_NUM_NEAR: Final = 3
WHOLE_ID: Final = "write its whole id, as `grapevine id` shows there"


@dataclass(frozen=True, kw_only=True)
class Known:
    """Something that can be meant. `about`: what tells it from others of its name."""

    id: str
    name: str
    about: str = ""

    def told(self) -> str:
        """One line that shows which one it is, whole id included."""
        return "  ".join(
            part for part in (self.id, repr(printable(self.name)) if self.name else "", self.about) if part
        )


def find_task(wanted: str, entries: Mapping[str, TaskEntry], *, acts: bool) -> TaskEntry:
    """The task that is meant. `acts`: something is to be signed or decided.

    Raises `RequestError` for what can mean no task or several, `TaskError` for one that is not known here.
    """
    if wanted in entries:
        return entries[wanted]
    known = [_known_task(entry) for entry in entries.values()]
    found = _meant(wanted, known, what="task", id_form=r"[0-9a-f]{1,64}", acts=acts)
    if found is None:
        remedy = "see `grapevine review list`" if known else "no task has been heard of yet"
        raise TaskError(f"no task {printable(wanted)!r} is known here; {_near(wanted, known, remedy)}")
    return entries[found.id]


def find_application(
    wanted: str, apps: Iterable[AppEntry], *, acts: bool, remedy: str = "see `grapevine get apps`"
) -> AppEntry:
    """The application that is meant, by its name, its id, or author/name. Raises like `find_task`."""
    by_id = {entry.id: entry for entry in apps}
    if wanted in by_id:
        return by_id[wanted]
    whole = [entry for entry in by_id.values() if f"{entry.author}/{entry.name}" == wanted]
    if whole:
        return whole[0]
    known = [_known_application(entry) for entry in by_id.values()]
    found = _meant(wanted, known, what="application", id_form=r"[0-9a-f]{1,64}", acts=acts)
    if found is None:
        remedy = remedy if known else "no application has been heard of yet"
        raise TaskError(f"no application {printable(wanted)!r} is known here; {_near(wanted, known, remedy)}")
    return by_id[found.id]


def find_reviewed(
    wanted: str, entries: Mapping[str, TaskEntry], apps: Iterable[AppEntry], *, acts: bool
) -> TaskEntry | AppEntry:
    """The task or the application that is meant, where both can be judged. Raises like `find_task`."""
    by_id = {entry.id: entry for entry in apps}
    if wanted in entries or wanted in by_id or not by_id:
        return by_id[wanted] if wanted in by_id else find_task(wanted, entries, acts=acts)
    known = [*map(_known_task, entries.values()), *map(_known_application, by_id.values())]
    found = _meant(wanted, known, what="task", id_form=r"[0-9a-f]{1,64}", acts=acts)
    if found is None:
        raise TaskError(
            f"no task or application {printable(wanted)!r} is known here; "
            f"{_near(wanted, known, 'see `grapevine review list` and `grapevine get apps`')}"
        )
    return by_id[found.id] if found.id in by_id else entries[found.id]


def find_kept(wanted: str, entries: Mapping[str, TaskEntry], kept: Iterable[str]) -> str:
    """The id of the task that is meant, which is known here, or of which something is kept (ids alone).

    What is done to it lasts. Raises like `find_task`.
    """
    left = [Known(id=task, name="", about="known no more, something of it is kept") for task in kept]
    known = [*map(_known_task, entries.values()), *(each for each in left if each.id not in entries)]
    if any(each.id == wanted for each in known):
        return wanted
    found = _meant(wanted, known, what="task", id_form=r"[0-9a-f]{1,64}", acts=True)
    if found is None:
        near = _near(wanted, known, "see grapevine status")
        raise TaskError(f"nothing is known or kept of a task {printable(wanted)!r}; {near}")
    return found.id


def meant(entry: TaskEntry | AppEntry) -> dict[str, Any]:
    """Which task, or application, an answer is about, beyond doubt: what a command shows after it did something."""
    if isinstance(entry, AppEntry):
        return {"task": entry.id, "name": entry.name, "version": 1, "publisher": entry.author, "kind": "application"}
    brief = entry.brief
    return {"task": entry.id, "name": brief.name, "version": brief.version, "publisher": brief.publisher}


def find_peer(wanted: str, names: Mapping[str, str], *, acts: bool = False, remedy: str = WHOLE_ID) -> str:
    """The id of the peer that is meant; `names`: what the peers in question are called, by id.

    A whole id is that peer also if it is none of them. Raises `RequestError` for what can mean no peer or several,
    `TaskError` for one that is none of them, with the remedy.
    """
    if _PEER_ID.fullmatch(wanted):
        return wanted
    known = [Known(id=peer, name=name) for peer, name in names.items()]
    found = _meant(wanted, known, what="peer", id_form=r"[a-z2-7]{1,20}", acts=acts)
    if found is None:
        raise TaskError(f"no peer {printable(wanted)!r} is known here; {_near(wanted, known, remedy)}")
    return found.id


def whole_peer(text: str, what: str) -> str:
    """A peer id where a stranger's name must not do. Raises `RequestError`, which says `what` it is for."""
    if not _PEER_ID.fullmatch(text):
        raise RequestError(
            f"{what} {printable(text[:80])!r}: is no peer id; write its 20 characters of a-z and 2-7, "
            "as `grapevine id` shows there"
        )
    return text


def twins(entry: TaskEntry, entries: Mapping[str, TaskEntry]) -> list[TaskEntry]:
    """Other tasks whose name is the same, or looks so, by another publisher."""
    name, publisher = entry.brief.name, entry.brief.publisher
    return [
        other for other in entries.values() if other.brief.publisher != publisher and look_alike(other.brief.name, name)
    ]


def _meant(wanted: str, known: Iterable[Known], *, what: str, id_form: str, acts: bool) -> Known | None:
    """The one that is meant, or None. Raises `RequestError`."""
    if is_blank(wanted):
        raise RequestError(f"no {what} is named: write its id, the beginning of it, or its name")
    if len(wanted) > MAX_NAME:
        raise RequestError(f"{printable(wanted[:20])!r}… has {len(wanted)} characters, and no {what} is called so")
    known = list(known)
    can_be_id = re.fullmatch(id_form, wanted) is not None
    least = LEAST_TO_ACT if acts else LEAST_TO_LOOK
    named = [each for each in known if each.name == wanted]
    if named:
        named = [each for each in known if look_alike(each.name, wanted)]
    begun = [each for each in known if can_be_id and each.id.startswith(wanted) and each not in named]
    if len(wanted) < least:
        if can_be_id and not named:
            raise RequestError(
                f"{wanted!r} is too short: write at least {least} characters of the {what}'s id"
                + (" where something is signed or decided" if acts and len(wanted) >= LEAST_TO_LOOK else "")
                + ", or its whole name"
            )
        begun = []
    found = [*named, *begun]
    if len(found) > 1:
        more = f"\n  and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        lines = "".join(f"\n  {each.told()}" for each in found[:MAX_LISTED])
        raise RequestError(f"{printable(wanted)!r} could mean any of these: write the id of one{lines}{more}")
    return found[0] if found else None


def _known_task(entry: TaskEntry) -> Known:
    brief = entry.brief
    gone = ", retracted" if entry.retracted else ""
    about = f"version {brief.version} by {brief.publisher}{gone}"
    return Known(id=entry.id, name=brief.name, about=about)


def _known_application(entry: AppEntry) -> Known:
    return Known(id=entry.id, name=entry.name, about=f"application by {entry.author}")


def _near(wanted: str, known: list[Known], remedy: str) -> str:
    """How to go on after something that is not known."""
    written = wanted.strip().lower()
    close = difflib.get_close_matches(written, {each.name.lower() for each in known}, n=_NUM_NEAR, cutoff=0.6)
    near = [
        each
        for each in known
        if each.name.lower() in close or (len(written) >= LEAST_TO_LOOK and each.id.startswith(written))
    ]
    lines = "".join(f"\n  {each.told()}" for each in (near or known)[:_NUM_NEAR])
    start = "did you mean" if near else f"{remedy}; there are, for example" if known else remedy
    return f"{start}:{lines}" if lines else start
