"""What `grapevine trust` does: the trust file changed, and whom this device trusts, as plain values.

The running service does it for the command, and judges its tasks again; without one the command does it
itself, and the next start reads the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.config.trust_file import (
    RELATIONS,
    TRUST_FILE,
    TrustedPeer,
    checked_peer,
    read_trust_file,
    trusting,
    write_trust_file,
)
from grapevine_agent.printable import printable
from grapevine_agent.requests.naming import find_peer, whole_peer
from grapevine_agent.requests.parameters import checked
from grapevine_proto.errors import ConfigError, RequestError


def change_trust(config: Config, change: dict[str, Any] | None) -> dict[str, Any]:
    """Change the trust file of a configuration, and say whom it trusts then.

    `change` is None (only look), or has `action` ("add" or "remove"), `peer`, and optionally `relation`; for "add"
    `roles` and `name`. To add, `peer` is a whole id; to remove, also the beginning of one or the owner's own name
    for it. The file is as it was if the configuration cannot be read with the change in it.

    Raises `RequestError` for a change that is not one, `ConfigError` for one that cannot be; both say what to do.
    """
    state_dir = config.agent.state_dir
    before = read_trust_file(state_dir)
    notes: list[str] = []
    peer = None
    if change is not None:
        peer, after = _changed(config, before, change)
        write_trust_file(state_dir, after)
        try:
            changed = load_config(config.path, os.environ)
        except ConfigError:
            write_trust_file(state_dir, before)
            raise
        notes = _notes(config, changed)
        config = changed
    return {"file": str(state_dir / TRUST_FILE), "peer": peer, "notes": notes, "peers": _listed(config)}


@dataclass(frozen=True, kw_only=True)
class _Addition:
    """What "add" takes."""

    peer: str
    relation: str = "reviewer"
    roles: list[str] = field(default_factory=list)
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class _Removal:
    """What "remove" takes; `relation` None: whatever the peer is trusted as."""

    peer: str
    relation: str | None = None


def _changed(
    config: Config, before: tuple[TrustedPeer, ...], change: dict[str, Any]
) -> tuple[str, tuple[TrustedPeer, ...]]:
    """The peer that was meant, and the list with the change in it."""
    words = {key: value for key, value in change.items() if key != "action"}
    match change.get("action"):
        case "add":
            new = _added(_Addition(**checked("trust add", _Addition, words)))
            return new.peer, trusting(before, new)
        case "remove":
            return _without(config, before, _Removal(**checked("trust remove", _Removal, words)))
        case action:
            raise RequestError(f"trust: action = {printable(repr(action)[:80])}: write add or remove")


def _added(addition: _Addition) -> TrustedPeer:
    peer = whole_peer(addition.peer, "the peer")
    try:
        return checked_peer(peer, addition.relation, addition.roles, addition.name)
    except ConfigError as error:
        raise RequestError(str(error)) from None


def _without(config: Config, before: tuple[TrustedPeer, ...], removal: _Removal) -> tuple[str, tuple[TrustedPeer, ...]]:
    relation = removal.relation
    if relation is not None and relation not in RELATIONS:
        raise RequestError(f"relation = {printable(relation[:80])!r}: write one of {', '.join(RELATIONS)}")
    written: dict[str, str] = {}
    for line in _listed(config):
        written[line["peer"]] = written.get(line["peer"]) or line["name"]
    peer = find_peer(removal.peer, written, acts=True, remedy="see `grapevine trust list`")
    after = tuple(each for each in before if each.peer != peer or relation not in (None, each.relation))
    if after == before:
        where = config.path or "the environment"
        remedy = f"it stands in {where}: take it out there" if peer in written else "see grapevine trust list"
        raise ConfigError(f"{peer!r} is not in {config.agent.state_dir / TRUST_FILE}; {remedy}")
    return peer, after


def _listed(config: Config) -> list[dict[str, Any]]:
    """Every peer with what it is trusted as, and whether the configuration or the trust file says so."""
    review, trust = config.review, config.trust
    filed = {(each.peer, each.relation): each for each in trust.peers}
    reviewers = dict.fromkeys((*review.trusted, *(peer for peers in review.roles.values() for peer in peers)))
    lists = {
        "reviewer": tuple(reviewers),
        "publisher": trust.publishers,
        "server": trust.servers,
        "denied": trust.deny_publishers,
    }
    lines: list[dict[str, Any]] = []
    for relation, peers in lists.items():
        for peer in peers:
            entry = next((each for key, each in filed.items() if key == (peer, relation)), None)
            roles = sorted(role for role, holders in review.roles.items() if peer in holders)
            lines.append(
                {
                    "peer": peer,
                    "as": relation,
                    "roles": roles if relation == "reviewer" else [],
                    "name": entry.name if entry else "",
                    "from": TRUST_FILE if entry else "configuration",
                }
            )
    return lines


def _notes(before: Config, after: Config) -> list[str]:
    """What an owner should know of a change."""
    notes: list[str] = []
    if after.trust.publishers and not before.trust.publishers:
        notes.append("from now on only tasks of the publishers in the list run here; before, anybody's did")
    if before.trust.publishers and not after.trust.publishers:
        notes.append("the list of publishers is empty now: anybody's tasks run here, once reviewed")
    reviewers = {line["peer"] for line in _listed(after) if line["as"] == "reviewer"}
    if len(reviewers) < after.review.approvals:
        notes.append(
            f"{len(reviewers)} of the {after.review.approvals} reviewers that a task needs are trusted: "
            "nothing can be approved until there are more"
        )
    for role, needed in after.review.need.items():
        if len(after.review.roles.get(role, ())) < needed:
            notes.append(f"{needed} reviewers with the role {role} are needed, and fewer have it")
    return notes
