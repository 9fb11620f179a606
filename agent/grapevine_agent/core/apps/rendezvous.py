"""Which of those that qualify run a component: highest random weight, so that all come to one end without talking.

For each of them a score is drawn from a hash of the component and its id. The first so many by (preference, score)
have the replicas. When one of these goes, the next in the order takes its place and no other moves; when one comes, it
takes at most one place (Thaler and Ravishankar, *Using name-based mappings to increase hit rates*, IEEE/ACM
Transactions on Networking 6(1), 1998).

Where replicas are to be apart by a label, the order is gone through and whoever has a value that is taken is passed
over. So each value stands for its best agent, and the rule above holds for values.

The name is hashed and not the application's id: a new version of it stays where the last one is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from grapevine_agent.core.apps.matching import Capabilities, preference
from grapevine_proto.application import Component


def score(author: str, application: str, component: str, peer: str) -> int:
    """64 bits that are a peer's own for this component, the same to everybody."""
    said = f"{author}/{application}/{component}/{peer}".encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8], "big")


def chosen(author: str, application: str, component: Component, among: Mapping[str, Capabilities]) -> tuple[str, ...]:
    """Who of these runs it, the first first; all of them, where it has no number of replicas and need not be apart."""
    where = component.where
    order = sorted(
        among,
        key=lambda peer: (-preference(where, among[peer]), -score(author, application, component.name, peer), peer),
    )
    if where.apart_by:
        taken: dict[str, str] = {}
        for peer in order:
            taken.setdefault(among[peer].labels.get(where.apart_by, ""), peer)
        order = list(taken.values())
    return tuple(order[: component.replicas] if component.replicas else order)
