"""What `grapevine trust` does: the trust file changed, and whom this device trusts, as plain values.

The running service does it for the command, and judges its tasks again; without one the command does it
itself, and the next start reads the file.
"""

from __future__ import annotations

import os
from typing import Any

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.config.trust_file import (
    TRUST_FILE,
    TrustedPeer,
    checked_peer,
    read_trust_file,
    trusting,
    write_trust_file,
)
from grapevine_proto.errors import ConfigError


def change_trust(config: Config, change: dict[str, Any] | None) -> dict[str, Any]:
    """Change the trust file of a configuration, and say whom it trusts then.

    `change` is None (only look), or has `action` ("add" or "remove"), `peer`, `relation`, and for "add"
    `roles` and `name`. The file is as it was if the configuration cannot be read with the change in it.
    Raises `ConfigError` that says what to do.
    """
    state_dir = config.agent.state_dir
    before = read_trust_file(state_dir)
    notes: list[str] = []
    if change is not None:
        after = _added(before, change) if change["action"] == "add" else _removed(config, before, change)
        write_trust_file(state_dir, after)
        try:
            changed = load_config(config.path, os.environ)
        except ConfigError:
            write_trust_file(state_dir, before)
            raise
        notes = _notes(config, changed)
        config = changed
    return {"file": str(state_dir / TRUST_FILE), "notes": notes, "peers": _listed(config)}


def _added(before: tuple[TrustedPeer, ...], change: dict[str, Any]) -> tuple[TrustedPeer, ...]:
    return trusting(before, checked_peer(change["peer"], change["relation"], change["roles"], change["name"]))


def _removed(config: Config, before: tuple[TrustedPeer, ...], change: dict[str, Any]) -> tuple[TrustedPeer, ...]:
    peer, relation = change["peer"], change["relation"]
    after = tuple(each for each in before if each.peer != peer or relation not in ("", each.relation))
    if after == before:
        written = [line for line in _listed(config) if line["peer"] == peer]
        where = config.path or "the environment"
        remedy = f"it stands in {where}: take it out there" if written else "see grapevine trust list"
        raise ConfigError(f"{peer!r} is not in {config.agent.state_dir / TRUST_FILE}; {remedy}")
    return after


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
