"""How much a device holds: the sizes that must not grow with time, and what each may be in a world of so many."""

from __future__ import annotations

import pickle  # to count bytes; nothing is read
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grapevine_lab.simulator.device import Device

VERDICT_BYTES: Final = 600  # of a signed review or tombstone on disk
BESIDE_BYTES: Final = 8_192
WAITING: Final = 16  # messages that may be about to leave
BOUNDED: Final = ("records", "sequences", "members", "replays", "tasks", "claims", "versions", "outbox", "stored")
WHOLE: Final = "core"  # the pickled core: whatever grows in it


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much there is in a world to be known of."""

    num_devices: int  # that ever came
    num_tasks: int  # that were ever published
    num_reviewers: int
    model_bytes: int  # of one saved model
    task_bytes: int  # of one task's manifest and weights

    def most(self) -> Mapping[str, int]:
        """The most that one device may hold of each thing, however long it has lived."""
        devices, tasks = self.num_devices, self.num_tasks
        said = tasks * (1 + self.num_reviewers)  # manifests, and verdicts on them
        return {
            "records": 2 * devices + said,
            "sequences": said,
            "members": devices - 1,
            "replays": devices,
            "tasks": tasks,
            "claims": 2 * devices * tasks,
            "versions": devices * tasks,
            "outbox": 2 + 2 * tasks + WAITING,
            "stored": tasks * (self.model_bytes + self.task_bytes) + 2 * said * VERDICT_BYTES + BESIDE_BYTES,
        }


def sizes_of(device: Device) -> dict[str, int]:
    """What a running device holds, by the names of `BOUNDED`."""
    core = device.core
    assert core is not None
    learners = core.tasks.learning.values()
    claims = [learner.merging.claims for learner in learners]
    return {
        "records": len(core.records),
        "sequences": len(core.records._sequences),
        "members": len(core.members.peers),
        "replays": len(core.passing.replays._senders) + len(core.passing.replays._strangers),
        "tasks": max(len(core.book.entries), len(core.book.reviews)),
        "claims": sum(len(each.ages) + len(each.experiences) for each in claims),
        "versions": sum(len(learner.model.versions) for learner in learners),
        "outbox": sum(
            len(each.outbox._records) + len(each.outbox) - len(each.outbox._chunks) for each in device.attachments
        ),
        "stored": device.disk.num_bytes,
    }


def whole_bytes(device: Device) -> int:
    """The core with everything in it, pickled: what `sizes_of` does not name grows in here."""
    return len(pickle.dumps(device.core, protocol=5))
