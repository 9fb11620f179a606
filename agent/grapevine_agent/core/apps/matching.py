"""Whether an agent qualifies for a component, by what it announces: pure, in words for people.

An agent is held against a component's `Where`. Both ends do it alike: an agent with what it knows of itself, the others
with what it has announced, which is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.application import PEER, PROFILE, SITE, LabelTest, Term, Where
from grapevine_proto.messages import MAX_BROKERS, MAX_KINDS, PeerAnnouncement


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an agent says that it has. `labels` holds its id, site and profile, too."""

    labels: Mapping[str, str]
    traits: frozenset[str]
    data_kinds: frozenset[str]
    cores: int
    memory_mb: int


def announced(peer: str, said: PeerAnnouncement) -> Capabilities:
    """What a peer has, by its announcement."""
    own = {PEER: peer, SITE: said.site, PROFILE: said.profile}
    return Capabilities(
        labels={**dict(said.labels), **{key: value for key, value in own.items() if value}},
        traits=frozenset(said.traits),
        data_kinds=frozenset(said.data_kinds),
        cores=said.cores,
        memory_mb=said.memory_mb,
    )


def said_of(settings: CoreSettings) -> PeerAnnouncement:
    """What an agent with these settings announces of itself, whatever it is doing."""
    return PeerAnnouncement(
        name=settings.name,
        profile=settings.limits.profile,
        cores=settings.limits.cores,
        memory_mb=settings.limits.memory_mb,
        data_kinds=settings.data_kinds[:MAX_KINDS],
        brokers=settings.brokers[:MAX_BROKERS],
        gateway=settings.is_gateway,
        site=settings.site,
        location=settings.location,
        labels=settings.labels,
        traits=settings.traits,
    )


def of_settings(settings: CoreSettings) -> Capabilities:
    """What this agent has: what it announces."""
    return announced(settings.peer, said_of(settings))


def why_not(where: Where, has: Capabilities) -> list[str]:
    """What an agent lacks to qualify; empty if it does."""
    reasons = [f"it has not the trait {trait}" for trait in where.traits if trait not in has.traits]
    reasons += [f"it has no data of kind {kind}" for kind in where.data_kinds if kind not in has.data_kinds]
    if where.cores > has.cores:
        reasons.append(f"needs {where.cores} cores, it has {has.cores}")
    if where.memory_mb > has.memory_mb:
        reasons.append(f"needs {where.memory_mb} MB, it has {has.memory_mb}")
    if where.terms and not any(holds(term, has) for term in where.terms):
        reasons.append(_no_term(where.terms, has))
    if where.apart_by and where.apart_by not in has.labels:
        reasons.append(f"replicas are apart by {where.apart_by}, and it has no such label")
    return reasons


def preference(where: Where, has: Capabilities) -> int:
    """How much rather it is to run there than elsewhere: the sum of the weights that hold."""
    return sum(each.weight for each in where.preferred if holds(each.term, has))


def holds(term: Term, has: Capabilities) -> bool:
    """Whether all tests of a term hold."""
    return all(_holds(test, has) for test in term)


def _holds(test: LabelTest, has: Capabilities) -> bool:
    value = has.labels.get(test.key)
    match test.operator:
        case "In":
            return value in test.values
        case "NotIn":
            return value not in test.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None


def _no_term(terms: tuple[Term, ...], has: Capabilities) -> str:
    if len(terms) > 1:
        return "none of its label terms holds: " + "; or ".join(
            " and ".join(map(test_in_words, term)) for term in terms
        )
    failed = next(test for test in terms[0] if not _holds(test, has))
    is_there = f"it is {has.labels[failed.key]!r}" if failed.key in has.labels else "it has no such label"
    return f"{test_in_words(failed)}: {is_there}"


def test_in_words(test: LabelTest) -> str:
    """One test: `room in (kitchen, hall)`."""
    values = ", ".join(test.values)
    match test.operator:
        case "In":
            return f"{test.key} in ({values})"
        case "NotIn":
            return f"{test.key} not in ({values})"
        case "Exists":
            return f"{test.key} is there"
        case "DoesNotExist":
            return f"{test.key} is not there"
