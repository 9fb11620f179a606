"""One scenario, run for one seed or for several: until its rounds are over, with checkpoints on the way.

A run ends when every node that is switched on has finished the scenario's rounds and merged what came
of the last one, when `duration_s` has passed, or, so that nodes which never come back do not hold it up
for ever, at a time limit.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from grapevine_lab.simulator import checkpoint
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.experiment import Prepared, Run, begin, give_trainer
from grapevine_lab.simulator.life_report import LifeReport
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.sitting import Sitting
from grapevine_lab.simulator.tally import Tally
from grapevine_lab.simulator.telling import Telling
from grapevine_lab.simulator.world import World
from grapevine_proto.errors import TaskError

LOOK_EVERY_EVENTS = 20  # at the wall clock
LOOK_EVERY_S = 0.25  # up from the work
YOUNG_OBJECTS = 50_000  # until one looks for garbage among them


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """How far a run is: the round that the slowest node is in, and virtual time."""

    seed: int
    round: int
    time_s: float
    num_messages: int


@dataclass(kw_only=True)
class Outcome:
    """What came of one seed."""

    seed: int
    measurements: Measurements
    virtual_s: float = 0.0
    wall_s: float = 0.0  # of the loop, over all its sittings
    training_wall_s: float = 0.0  # of that, training and evaluating
    rounds: int = 0  # that every node finished
    num_events: int = 0
    num_delivered: int = 0
    num_to_one: int = 0  # messages to one peer
    num_in_vain: int = 0  # of these, those that nobody was there to hear
    num_between_members: int = 0  # of these, those that no server sent or was sent
    bytes_between_members: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    updates: dict[str, dict[str, int]] = field(default_factory=dict)  # that honest nodes got: see `_updates`
    server: dict[str, int] = field(default_factory=dict)  # its messages and bytes; none without a server
    transfers: dict[str, int] = field(default_factory=dict)  # a `Tally`; none where no broker has a packet limit
    held_s: dict[str, float] = field(default_factory=dict)  # by limit, per governed node
    reached_limit: bool = False
    life: LifeReport | None = None  # of a long run


def run_seed(
    prepared: Prepared,
    seed: int,
    *,
    report: Callable[[Progressed], None] = lambda _: None,
    keep: Path | None = None,
    keep_every_s: float = 60.0,
    resume: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    events: Path | None = None,
) -> Outcome:
    """Run one seed from its start, or from its checkpoint.

    Args:
        prepared: Checked.
        seed: Of everything that is drawn.
        report: Is told now and then how far the run is.
        keep: A file for checkpoints; None: none are made.
        keep_every_s: Wall time between two checkpoints.
        resume: Go on from `keep` if it is there.
        stopping: Whether somebody wants it to stop: then it keeps a checkpoint and raises KeyboardInterrupt.
        events: A file for everything that happens, one JSON object a line; None: it is not told.

    Raises:
        ConfigError: The checkpoint is of another scenario, or damaged, or the file cannot be written.
    """
    sitting = checkpoint.load(keep, prepared, seed) if resume and keep is not None else None
    if sitting is None:
        sitting = Sitting(run=begin(prepared, seed), seed=seed)
        give_trainer(sitting.run, prepared.scenario, seed)
    world, work = sitting.run.world, sitting.run.world.work
    try:
        _begin_telling(world, events)
        with _seldom_collected():
            _go_on(sitting, prepared, report, keep, keep_every_s, stopping, events)
        report(_progressed(sitting))
        work.evaluate_all()
        _write_events(world, events)
        if keep is not None:
            checkpoint.save(keep, sitting, prepared)
        return _outcome(sitting, prepared)
    finally:
        if work.trainer is not None:
            work.trainer.close()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """A world is made of objects that live to its end: they are not looked through again and again for garbage."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _go_on(
    sitting: Sitting,
    prepared: Prepared,
    report: Callable[[Progressed], None],
    keep: Path | None,
    keep_every_s: float,
    stopping: Callable[[], bool],
    events: Path | None,
) -> None:
    """Let things happen until it is over. Asked to stop, it leaves a checkpoint behind and raises KeyboardInterrupt.

    The wall clock decides when to look up and when to keep a checkpoint, never what happens.
    """
    world, began_s = sitting.run.world, time.monotonic()
    kept_s = looked_s = began_s
    while not _is_over(sitting, prepared.scenario.rounds):
        world.step()
        sitting.num_events += 1
        if sitting.num_events % LOOK_EVERY_EVENTS or (now_s := time.monotonic()) - looked_s < LOOK_EVERY_S:
            continue
        looked_s = now_s
        if world.telling is not None and world.telling.is_much:
            _write_events(world, events)
        report(_progressed(sitting))
        stop = stopping()
        if keep is not None and (stop or now_s - kept_s >= keep_every_s):
            sitting.wall_s += time.monotonic() - began_s
            _write_events(world, events)
            checkpoint.save(keep, sitting, prepared)
            began_s = kept_s = time.monotonic()
        if stop:
            _write_events(world, events)
            raise KeyboardInterrupt
    sitting.wall_s += time.monotonic() - began_s
    if not sitting.run.measurements.samples:
        raise TaskError(f"no node took part: {_why_nobody(sitting.run)}")


def _begin_telling(world: World, events: Path | None) -> None:
    """Tell what happens from here on, if somebody wants to know: after what the checkpoint, if any, has told.

    Raises ConfigError where the file cannot be written, before anything runs.
    """
    world.telling = (world.telling or Telling()) if events is not None else None
    _write_events(world, events)


def _write_events(world: World, events: Path | None) -> None:
    if world.telling is not None and events is not None:
        world.telling.write(events)


def _why_nobody(run: Run) -> str:
    """What the first node that is there says of the task."""
    for device in run.world.devices:
        if device.core is None or device.settings.role != "member":
            continue
        entry = device.core.book.entries.get(run.task)
        if entry is None:
            reasons = ", ".join(sorted(device.rejected)) or "nothing was heard of it"
            return f"the task's records did not arrive ({reasons})"
        return "; ".join(device.core.why_not(entry, run.world.clock.moment())) or "there was no time for a round"
    return "all of them were away"


def _is_over(sitting: Sitting, rounds: int) -> bool:
    """Asked after every event, so it is quick unless a round may just have been the last one."""
    world = sitting.run.world
    if world.clock.next_s() > sitting.run.limit_s:
        return True
    changed, world.changed = world.changed, []
    if not rounds or not changed:
        return False
    for node in changed:
        learner = world.devices[node].learner(sitting.run.task)
        if learner is not None and learner.model.round > rounds:
            sitting.finished.add(node)
        else:
            sitting.finished.discard(node)
    if len(sitting.finished) < world.num_members:
        return False
    members = _members(sitting.run)
    return bool(members) and all(device.index in sitting.finished for device in members)


def _members(run: Run) -> list[Device]:
    """The members that are switched on."""
    return [device for device in run.world.devices if device.running and device.settings.role == "member"]


def _progressed(sitting: Sitting) -> Progressed:
    world = sitting.run.world
    return Progressed(
        seed=sitting.seed,
        round=_rounds_done(sitting.run),
        time_s=world.clock.now_s,
        num_messages=world.post.num_delivered,
    )


def _rounds_done(run: Run) -> int:
    """Rounds that every member which is switched on has finished, and merged what came of them."""
    learners = [device.learner(run.task) for device in _members(run)]
    return max(0, min((learner.model.round - 1 if learner is not None else 0 for learner in learners), default=0))


def _server_traffic(world: World) -> dict[str, int]:
    names = ("messages_sent", "bytes_sent", "messages_received", "bytes_received")
    links = [device.link for device in world.devices if device.settings.role == "server"]
    return {name: sum(getattr(link, name) for link in links) for name in names} if links else {}


def _transfers(world: World) -> dict[str, int]:
    """What all nodes' transfers have come to, and the server's."""
    if world.carrying is None:
        return {}
    return asdict(sum((device.transfers for device in world.devices), Tally()))


def _updates(world: World) -> dict[str, dict[str, int]]:
    """The updates that honest nodes got, of "hostile" and "honest" senders: how many were taken, and refused why."""
    found: dict[str, dict[str, int]] = {}
    for device in world.devices:
        if device.hostile is not None:
            continue
        for (whose, what), number in sorted(device.updates.items()):
            counts = found.setdefault(whose, {})
            counts[what] = counts.get(what, 0) + number
    return found


def _outcome(sitting: Sitting, prepared: Prepared) -> Outcome:
    run, world = sitting.run, sitting.run.world
    rejected: dict[str, int] = {}
    for device in world.devices:
        for reason, number in sorted(device.rejected.items()):
            rejected[reason] = rejected.get(reason, 0) + number
    rounds = _rounds_done(run)
    return Outcome(
        seed=sitting.seed,
        measurements=run.measurements,
        virtual_s=world.clock.now_s,
        wall_s=sitting.wall_s,
        training_wall_s=world.work.wall_s,
        rounds=rounds,
        num_events=sitting.num_events,
        num_delivered=world.post.num_delivered,
        num_to_one=world.post.num_to_one,
        num_in_vain=world.post.num_in_vain,
        num_between_members=world.post.num_between_members,
        bytes_between_members=world.post.bytes_between_members,
        rejected=rejected,
        updates=_updates(world),
        server=_server_traffic(world),
        transfers=_transfers(world),
        held_s=world.sensing.held_s() if world.sensing is not None else {},
        reached_limit=bool(prepared.scenario.rounds) and rounds < prepared.scenario.rounds,
        life=LifeReport.of(world.ledger) if world.ledger is not None else None,
    )
