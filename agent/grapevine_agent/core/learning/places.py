"""How many senders may have vectors of theirs held here, all together: what a crowd says must not fill a device.

A few bytes can stand for a whole model (`encodings`), and keys cost nothing. So what is held of senders is bounded by
what it takes once it is decoded, and not by what has travelled. Each sender that something is held of has a *place*,
as large as what can be held of one at most:

    2   a base that is remembered, so that a change can come alone, and the change that came in one message with it
    1   a whole model that waits for the next merge
    3   a change that waits for it: the model, the base, and what came with it
    6   changes that are summed: a base and what came with it, the model that the sender's window began with for us,
        its newest one, and the two that `clip` makes of an update that is too far away

And up to four models of senders wait to be measured (`guard/shadow`).

Places together take up to `HELD_MODELS` models, or `HELD_BYTES` where that is more, and no more than one part in
`LENT_SHARE` of the memory that the owner lends; but two senders are heard whatever they take. So 64 senders have a
place while a model has up to 65,000 parameters where changes are summed, and 390,000 where whole models are gathered.
"""

from __future__ import annotations

from typing import Final

from grapevine_agent.core.learning.guard.shadow import most_waiting
from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.plan import form_of_updates
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_proto.manifest import MergePlan
from grapevine_tasks.layout import ModelLayout

HELD_MODELS: Final = 64
HELD_BYTES: Final = 100_000_000
LENT_SHARE: Final = 4  # one part in so many of `limits.memory_mb`
LEAST_SENDERS: Final = 2
MAX_PENDING: Final = 64  # senders that are gathered, or whose windows are open, at most
MAX_BASES: Final = 8  # that a member remembers where changes are not summed
MAX_SERVED: Final = 256  # members of whom a server remembers bases, or holds changes to compare them
OWN_MODELS: Final = 4  # of a server: the newest, the released one, and both as they are made
MIB: Final = 2**20

A_BASE: Final = 2
A_MODEL: Final = 1
A_CHANGE: Final = 3
A_WINDOW: Final = 6


def most_places(layout: ModelLayout, num_vectors: int, *, memory_mb: int, most: int) -> int:
    """How many senders may have a place of so many vectors, at most `most`, on a device that lends so much."""
    held = max(HELD_BYTES, HELD_MODELS * _place_bytes(layout, 1))
    bound = min(held, memory_mb * MIB // LENT_SHARE)
    return min(most, max(LEAST_SENDERS, bound // _place_bytes(layout, num_vectors)))


def gathered_vectors(plan: MergePlan) -> int:
    """The vectors of a place, where updates wait for a merge."""
    if STRATEGIES[plan.strategy].needs_base:
        return A_WINDOW
    return A_CHANGE if form_of_updates(plan) == "delta" else A_MODEL


def held_bytes(plan: MergePlan, layout: ModelLayout, *, memory_mb: int) -> int:
    """What a member of a task holds of all others at most."""
    num_measured = 0 if STRATEGIES[plan.strategy].personal else most_waiting(layout.num_parameters + layout.num_buffers)
    measured = num_measured * _place_bytes(layout, A_MODEL)
    num_vectors, most = gathered_vectors(plan), MAX_PENDING
    if STRATEGIES[plan.strategy].pairwise:
        if form_of_updates(plan) != "delta":
            return measured
        num_vectors, most = A_BASE, MAX_BASES
    num_places = most_places(layout, num_vectors, memory_mb=memory_mb, most=most)
    return num_places * _place_bytes(layout, num_vectors) + measured


def served_bytes(plan: MergePlan, layout: ModelLayout, *, memory_mb: int) -> int:
    """What a server of a task holds at most: its models, those of its strategy, and what places of members take."""
    entry = SERVER_STRATEGIES[plan.server_strategy]
    num_clusters = round(entry.with_defaults(plan.server_constants).get("max_clusters", 1))
    held = (OWN_MODELS + entry.num_models * num_clusters) * _place_bytes(layout, 1)
    for num_vectors, are_held in ((A_MODEL, entry.clusters), (A_BASE, form_of_updates(plan) == "delta")):
        if are_held:
            num_places = most_places(layout, num_vectors, memory_mb=memory_mb, most=MAX_SERVED)
            held += num_places * _place_bytes(layout, num_vectors)
    return held


def _place_bytes(layout: ModelLayout, num_vectors: int) -> int:
    return max(1, 4 * (num_vectors * layout.num_parameters + layout.num_buffers))
