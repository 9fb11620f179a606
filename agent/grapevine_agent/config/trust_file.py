"""Whom the owner trusts beside what the configuration says: `trust.toml` in the state folder.

`grapevine trust` writes it; the lists of `[review]` and `[trust]` are joined with it. It is a file of
its own because the agent may write in its state folder, where the configuration is often another user's,
read-only, or made by a tool.

A device without this file trusts fewer reviewers, but also denies fewer peers. So a damaged one is never taken for an
empty one: the copy beside it is used, which `grapevine trust` writes too; the same where it is gone, or empty, as power
cuts leave files. What the owner changed by hand is no damage, and its mistakes are named: an editor leaves another
time of change, a worn disk does not.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, get_args

from grapevine_agent.config.mistakes import Mistakes
from grapevine_agent.config.toml_reader import Table, read_toml_text
from grapevine_agent.store.durable import make_state_dir, move_aside, replace_durably
from grapevine_proto.errors import ConfigError

logger = logging.getLogger(__name__)

TRUST_FILE: Final = "trust.toml"
TRUST_COPY: Final = "trust.toml.copy"
PEER_ID: Final = r"[a-z2-7]{20}"
PEER_HINT: Final = '"aaaaaaaaaaaaaaaaaaaa" (20 characters of a-z and 2-7, as `grapevine id` shows)'
ROLE: Final = r"[a-z][a-z0-9_-]{0,31}"
ROLE_HINT: Final = '"security" (a-z, 0-9, - and _)'

Relation: TypeAlias = Literal["reviewer", "publisher", "server", "denied"]
RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)

_LEFT_BY_POWER_CUTS: Final = b"\0 \t\r\n"
_HEAD = """\
# Written by `grapevine trust`; the lists in the configuration are joined with it.
"""


@dataclass(frozen=True, kw_only=True)
class TrustedPeer:
    """One peer and what it is trusted as; `denied`: its tasks never run here. `name` is the owner's for it."""

    peer: str
    relation: Relation = "reviewer"
    roles: tuple[str, ...] = ()
    name: str = ""


def read_trust_file(state_dir: Path) -> tuple[TrustedPeer, ...]:
    """What `grapevine trust` has written, or the owner; nothing if there is no file. Raises `ConfigError`."""
    path, copy = state_dir / TRUST_FILE, state_dir / TRUST_COPY
    if trouble := _trouble(state_dir):
        logger.warning(
            "%s %s: its copy %s is used, until `grapevine trust` writes it again (to trust nobody, delete both)",
            path,
            trouble,
            TRUST_COPY,
        )
        return _read(copy)
    try:
        is_there = path.exists()
    except PermissionError:
        raise ConfigError(
            f"{path}: this user may not look into the state folder; run the command as the user that the agent runs as "
            "(sudo)"
        ) from None
    if not is_there:
        return ()
    try:
        return _read(path)
    except ConfigError as error:
        if not _is_sound(copy):
            raise
        raise ConfigError(f"{error}; {copy} is sound: to go back to it, copy it over {TRUST_FILE}") from None


def _trouble(state_dir: Path) -> str:
    """Why the copy is to be used, in words; empty: the file is what the owner wrote, or there is nothing better."""
    path, copy = state_dir / TRUST_FILE, state_dir / TRUST_COPY
    if not _is_sound(copy):
        return ""
    try:
        content = path.read_bytes()
        if not content.strip(_LEFT_BY_POWER_CUTS):
            return "is empty"
        is_changed_by_hand = path.stat().st_mtime_ns != copy.stat().st_mtime_ns
        return "" if is_changed_by_hand or content == copy.read_bytes() else "is damaged"
    except FileNotFoundError:
        return "is gone"
    except PermissionError:
        return ""  # of another user, and not damaged: reading it says so
    except OSError:
        return "is damaged"


def _is_sound(path: Path) -> bool:
    try:
        _read(path)
    except (OSError, ConfigError):
        return False
    return True


def _read(path: Path) -> tuple[TrustedPeer, ...]:
    entries, text = read_toml_text(path)
    mistakes = Mistakes(text)
    root = Table(entries, source=str(path), mistakes=mistakes)
    tables = root.tables("peer")
    root.finish()
    peers = tuple(_read_peer(table) for table in tables)
    for table in tables:
        table.finish()
    mistakes.end()
    return peers


def write_trust_file(state_dir: Path, peers: Iterable[TrustedPeer]) -> None:
    """Replace the file, in one go, and then its copy. Raises `StoreError`."""
    make_state_dir(state_dir)
    path, copy = state_dir / TRUST_FILE, state_dir / TRUST_COPY
    if _trouble(state_dir) and path.exists():
        logger.warning("%s was damaged and was moved to %s", path, move_aside(path, time.time()))
    blocks = [
        f"\n[[peer]]\nid = {_quoted(each.peer)}\nas = {_quoted(each.relation)}\n"
        + (f"roles = [{', '.join(map(_quoted, each.roles))}]\n" if each.roles else "")
        + (f"name = {_quoted(each.name)}\n" if each.name else "")
        for each in sorted(peers, key=lambda each: (each.relation, each.peer))
    ]
    content = "".join((_HEAD, *blocks)).encode()
    written_s = int(time.time())  # in whole seconds, as no later change is
    for each in (path, copy):
        replace_durably(each, lambda temporary: _write(temporary, content, written_s))


def trusting(peers: tuple[TrustedPeer, ...], new: TrustedPeer) -> tuple[TrustedPeer, ...]:
    """The peers with `new` among them, in place of what it was there as the same; roles add up."""
    old = next((each for each in peers if (each.peer, each.relation) == (new.peer, new.relation)), None)
    if old is not None:
        roles = tuple(dict.fromkeys((*old.roles, *new.roles)))
        new = TrustedPeer(peer=new.peer, relation=new.relation, roles=roles, name=new.name or old.name)
    return (*(each for each in peers if each is not old), new)


def checked_peer(peer: str, relation: str, roles: Iterable[str], name: str) -> TrustedPeer:
    """An entry from the command line. Raises `ConfigError` that says what to write."""
    entries = {"id": peer, "as": relation, "roles": list(roles), "name": name}
    table = Table(entries, source="grapevine trust add")
    return _read_peer(table)


def _read_peer(table: Table) -> TrustedPeer:
    relation = cast(Relation, table.text("as", "reviewer", choices=RELATIONS))
    roles = table.texts("roles", pattern=ROLE, hint=ROLE_HINT)
    if roles and relation != "reviewer":
        table.wrong("roles", f"only reviewers have roles, and this peer is trusted as {relation}")
    return TrustedPeer(
        peer=table.text("id", pattern=PEER_ID, hint=PEER_HINT),
        relation=relation,
        roles=roles,
        name=table.text("name", "", pattern=r"[^\x00-\x1f\x7f]*", hint='"Ada"', max_length=64),
    )


def _write(path: Path, content: bytes, written_s: int) -> None:
    path.write_bytes(content)
    os.utime(path, (written_s, written_s))


def _quoted(text: str) -> str:
    """A TOML string: what is written here holds no control characters, so JSON's form is one."""
    try:
        return json.dumps(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} cannot be written into {TRUST_FILE}: {error}") from None
