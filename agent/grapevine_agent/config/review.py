"""`[review]`, `[trust]` and `[[consent]]`: whose word counts on this device, and what its owner agrees to.

The lists are joined with what `grapevine trust` has written (see `trust_file`). A policy that nothing
can ever satisfy is refused where the configuration alone says so; where the trust file has a part in
it, judgements say what is missing: trust is built up one peer at a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from grapevine_agent.config.toml_reader import Table, suggestion
from grapevine_agent.config.trust_file import PEER_HINT, PEER_ID, ROLE, ROLE_HINT, TrustedPeer, read_trust_file
from grapevine_agent.core.settings import Consent, ConsentRule, ReviewPolicy, Veto

VETOES: tuple[Veto, ...] = ("trusted", "roles", "none")
OWN = "own"  # in [trust.approvals]: this device's own peer id


@dataclass(frozen=True, kw_only=True)
class ReviewConfig:
    """`[review]`: when a task counts as approved here. The fields are those of `ReviewPolicy`."""

    approvals: int = 2
    trusted: tuple[str, ...] = ()
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    need: Mapping[str, int] = field(default_factory=dict)
    veto: Veto = "trusted"
    veto_roles: tuple[str, ...] = ()
    rejections: int = 2
    max_valid_days: float = 7.0
    renew: bool = False


@dataclass(frozen=True, kw_only=True)
class TrustConfig:
    """`[trust]`: whose tasks may run (empty: anybody's), whose never, and which servers the owner trusts."""

    publishers: tuple[str, ...] = ()
    deny_publishers: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    approvals: Mapping[str, int] = field(default_factory=dict)  # publisher or "own": instead of [review] approvals
    peers: tuple[TrustedPeer, ...] = ()  # what `grapevine trust` has written, which is in the lists as well


def policy_of(review: ReviewConfig, trust: TrustConfig, own: str) -> ReviewPolicy:
    """The policy that tasks are judged by; `own` is this device's peer id."""
    return ReviewPolicy(
        approvals=review.approvals,
        trusted=frozenset(review.trusted),
        roles={role: frozenset(reviewers) for role, reviewers in review.roles.items()},
        need=dict(review.need),
        veto=review.veto,
        veto_roles=frozenset(review.veto_roles),
        rejections=review.rejections,
        max_valid_days=review.max_valid_days,
        publishers=frozenset(trust.publishers),
        deny_publishers=frozenset(trust.deny_publishers),
        approvals_of={own if peer == OWN else peer: number for peer, number in trust.approvals.items()},
    )


def joined_trust(review: Table, trust: Table, state_dir: Path | None) -> tuple[ReviewConfig, TrustConfig]:
    """Both tables, joined with the trust file in `state_dir`, if one is named. Raises `ConfigError`."""
    peers: tuple[TrustedPeer, ...] = ()
    is_whole = state_dir is None
    with review.apart():
        peers = read_trust_file(state_dir) if state_dir is not None else ()
        is_whole = True
    return read_review(review, peers, is_whole=is_whole), read_trust(trust, peers)


def read_review(table: Table, peers: tuple[TrustedPeer, ...] = (), *, is_whole: bool = True) -> ReviewConfig:
    """`[review]`, with the reviewers among `peers`; not `is_whole`: there may be more. Raises `ConfigError`."""
    reviewers = [each for each in peers if each.relation == "reviewer"]
    written = table.texts("trusted", pattern=PEER_ID, hint=PEER_HINT)
    roles = _read_roles(table)
    for each in reviewers:
        for role in each.roles:
            roles[role] = tuple(dict.fromkeys((*roles.get(role, ()), each.peer)))
    config = ReviewConfig(
        approvals=table.integer("approvals", ReviewConfig.approvals, low=0, high=100),
        trusted=tuple(dict.fromkeys((*written, *(each.peer for each in reviewers)))),
        roles=roles,
        need=_read_numbers(table, "need", low=1, pattern=ROLE, hint=ROLE_HINT),
        veto=cast(Veto, table.text("veto", ReviewConfig.veto, choices=VETOES)),
        veto_roles=table.texts("veto_roles", pattern=ROLE, hint=ROLE_HINT),
        rejections=table.integer("rejections", ReviewConfig.rejections, low=1, high=100),
        max_valid_days=table.number("max_valid_days", ReviewConfig.max_valid_days, low=0.01, high=366),
        renew=table.boolean("renew", ReviewConfig.renew),
    )
    _check_possible(table, config, grows=bool(reviewers) or not is_whole)
    return config


def read_trust(table: Table, peers: tuple[TrustedPeer, ...] = ()) -> TrustConfig:
    """`[trust]`, with what `peers` are trusted as. Raises `ConfigError`."""

    def joined(key: str, relation: str) -> tuple[str, ...]:
        written = table.texts(key, pattern=PEER_ID, hint=PEER_HINT)
        return tuple(dict.fromkeys((*written, *(each.peer for each in peers if each.relation == relation))))

    config = TrustConfig(
        publishers=joined("publishers", "publisher"),
        deny_publishers=joined("deny_publishers", "denied"),
        servers=joined("servers", "server"),
        approvals=_read_numbers(table, "approvals", low=0, pattern=f"{PEER_ID}|{OWN}", hint=PEER_HINT),
        peers=peers,
    )
    for peer in config.publishers:
        if peer in config.deny_publishers:
            table.wrong(
                "publishers",
                f"{peer} is denied as well (deny_publishers, or grapevine trust list): say one of both",
                beside=["deny_publishers"],
            )
    return config


def read_consent_rules(tables: list[Table]) -> tuple[ConsentRule, ...]:
    """The tables `[[consent]]`, in their order. Raises `ConfigError`."""
    rules: list[ConsentRule] = []
    for table in tables:
        rule = ConsentRule(
            answer=cast(Consent, table.text("answer", choices=("auto", "ask", "never"), hint='"auto"')),
            kind=table.text("kind", "", pattern=r"[a-z0-9-]{0,64}", hint='"digits-8x8"'),
            name=table.text("name", "", max_length=200),
            publisher=table.text("publisher", "", pattern=f"({PEER_ID})?", hint=PEER_HINT),
        )
        if not (rule.kind or rule.name or rule.publisher):
            remedy = 'or name, or publisher, is needed: for all tasks there is [agent] consent = "…"'
            table.wrong("kind", remedy, beside=["name", "publisher"])
        rules.append(rule)
        table.finish()
    return tuple(rules)


def _read_roles(table: Table) -> dict[str, tuple[str, ...]]:
    roles = table.table("roles")
    found: dict[str, tuple[str, ...]] = {}
    for role in table.mapping("roles"):
        _check_key(roles, role, ROLE, ROLE_HINT)
        found[role] = roles.texts(role, pattern=PEER_ID, hint=PEER_HINT)
    return found


def _read_numbers(table: Table, key: str, *, low: int, pattern: str, hint: str) -> dict[str, int]:
    numbers = table.table(key)
    found: dict[str, int] = {}
    for name in table.mapping(key):
        _check_key(numbers, name, pattern, hint)
        found[name] = numbers.integer(name, low, low=low, high=100)
    return found


def _check_key(table: Table, key: str, pattern: str, hint: str) -> None:
    if not re.fullmatch(pattern, key):
        table.wrong(key, f"the name {key!r} does not have the right form; write something like {hint}")


def _check_possible(table: Table, config: ReviewConfig, *, grows: bool) -> None:
    """Refuse what no set of verdicts can satisfy. `grows`: the trust file has a part in it."""
    reviewers = set(config.trusted).union(*config.roles.values())
    if 0 < len(reviewers) < config.approvals and not grows:
        table.wrong(
            "trusted",
            f"{len(reviewers)} trusted reviewers can never give {config.approvals} approvals; "
            f"trust more of them, or write approvals = {len(reviewers)}",
            beside=["approvals", "roles"],
        )
    for key, roles in (("need", tuple(config.need)), ("veto_roles", config.veto_roles)):
        for role in roles:
            if role not in config.roles:
                remedy = f"{role!r} is no role; {suggestion(role, config.roles)}; roles are made in [review.roles]"
                table.wrong(key, remedy, beside=["roles"])
    for role, needed in config.need.items():
        if 0 < len(config.roles.get(role, ())) < needed and not grows:
            table.wrong(
                "need",
                f"the {len(config.roles[role])} reviewers with the role {role} can never give {needed} approvals; "
                f"add reviewers to it, or write {role} = {len(config.roles[role])}",
                beside=["roles"],
            )
    if config.veto == "trusted" and config.rejections != ReviewConfig.rejections:
        remedy = 'has no effect while one rejection is a veto; write veto = "none" or "roles"'
        table.wrong("rejections", remedy, beside=["veto"])
    if config.veto != "roles" and config.veto_roles:
        table.wrong("veto_roles", 'has an effect with veto = "roles" only', beside=["veto"])
    if config.veto == "roles" and not config.roles:
        table.wrong("veto", "there are no roles; make them in [review.roles]", beside=["roles"])
    if config.veto != "trusted" and 0 < len(reviewers) < config.rejections and not grows:
        table.wrong(
            "rejections",
            f"{len(reviewers)} trusted reviewers can never give {config.rejections} rejections; "
            f"write rejections = {len(reviewers)}",
            beside=["trusted", "roles", "veto"],
        )
