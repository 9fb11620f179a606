"""A scenario from its first second to its last, on a lab that is up: deeds at their times, until it is over."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from grapevine_agent.control.protocol import NoAnswerError
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.testbed.acting import ask
from grapevine_lab.testbed.deeds import Deed, Deeds
from grapevine_lab.testbed.starting import statuses_of
from grapevine_lab.testbed.store import Lab
from grapevine_proto.errors import GrapevineError

LOOK_EVERY_S: Final = 0.5
LATE_FACTOR: Final = 6.0  # a run is given up after so many times the time that its rounds should take …
LEAST_LIMIT_S: Final = 90.0  # … or this, if that is more
TELL_EVERY_S: Final = 10.0
BEGUN_POLL_S: Final = 0.1
QUIET_S: Final = 3.0  # without anything new, after which all is written
WRITTEN_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a run went."""

    took_s: float
    in_time: bool
    rounds: dict[str, int]  # of each peer, that it has behind it
    rejected: dict[str, int]
    failed: tuple[str, ...]  # deeds that did not work, and why


def limit_of(prepared: Prepared) -> float:
    """After how many seconds a run is over in any case."""
    scenario = prepared.scenario
    if scenario.duration_s:
        return scenario.duration_s
    interval_s = prepared.built.draft.training.round_interval_s
    return max(LEAST_LIMIT_S, LATE_FACTOR * scenario.rounds * interval_s)


def run_timeline(lab: Lab, prepared: Prepared, say: Callable[[str], None]) -> Ran:
    """Do all deeds and wait for the end. Deeds that fail are noted, and the run goes on."""
    limit_s, rounds = limit_of(prepared), prepared.scenario.rounds
    if prepared.scenario.review is None:
        _wait_for_learning(lab, prepared.built.draft.training.round_interval_s)
    deeds = Deeds(lab, limit_s)
    waiting, failed = deeds.all(), list[str]()
    told_s, load_before = 0.0, os.getloadavg()[0]
    in_time = not rounds
    while (now_s := time.time() - lab.began_s) < limit_s:
        due = [deed for deed in waiting if deed.at_s <= now_s]
        again = [deed for deed in due if not _is_done(lab, deed, now_s, failed, say)]
        waiting = [*again, *waiting[len(due) :]]
        reached = _rounds(lab, deeds.gone)
        if rounds and not waiting and reached and min(reached.values()) >= rounds:
            in_time = True
            break
        if now_s - told_s >= TELL_EVERY_S and reached:
            told_s = now_s
            least, most = min(reached.values()), max(reached.values())
            told = f"round {least} to {most}" if most else f"nobody has a round behind it; {_why_not(lab)}"
            say(f"{now_s:6.1f} s  {told}")
        next_s = min([deed.at_s for deed in waiting if deed.at_s > now_s] + [limit_s, now_s + LOOK_EVERY_S])
        time.sleep(max(0.01, next_s - now_s))
    rejected = _rejected(lab)
    _settle(lab)
    ran = Ran(
        took_s=now_s,
        in_time=in_time,
        rounds=_rounds(lab, set()),
        rejected=rejected,
        failed=tuple(failed),
    )
    lab.note("ended", rejected=ran.rejected, load_before=load_before, load_after=os.getloadavg()[0], in_time=in_time)
    return ran


def _is_done(lab: Lab, deed: Deed, now_s: float, failed: list[str], say: Callable[[str], None]) -> bool:
    """Do a deed and note how that went; False: it is to be tried again."""
    if not deed.patience_s:
        say(f"{now_s:6.1f} s  {deed.what}")
    trouble = ""
    try:
        deed.do()
    except GrapevineError as error:
        if now_s < deed.at_s + deed.patience_s and not isinstance(error, NoAnswerError):
            return False
        trouble = str(error)
        failed.append(f"{deed.what}: {trouble}")
    if deed.patience_s:
        say(f"{now_s:6.1f} s  {deed.what}")
    if trouble:
        say(f"          that did not work: {trouble}")
    lab.note("deed", deed=deed.what, after_s=now_s, ends=deed.ends, trouble=trouble)
    return True


def _why_not(lab: Lab) -> str:
    """What the first peer that answers says of its tasks."""
    for name, status in statuses_of(lab, lab.peers).items():
        if status:
            tasks = [
                f"{line.get('label', line['name'])}: {line.get('why') or line['standing']}" for line in status["tasks"]
            ]
            return f"{name} says: {'; '.join(tasks) or 'it knows of no task'}"
    return "no peer answers"


def _wait_for_learning(lab: Lab, interval_s: float) -> None:
    """Let the timeline begin where a simulation's does: a round before the first model was evaluated.

    Real agents fetch the task and start their trainers first, which takes as long as it takes.
    """
    deadline_s = time.monotonic() + LEAST_LIMIT_S
    while not ask(lab, "recorded")["rounds"]:
        if time.monotonic() > deadline_s:
            raise GrapevineError(f"no peer has learned within {LEAST_LIMIT_S:g} s; {_why_not(lab)}")
        time.sleep(BEGUN_POLL_S)
    lab.began_s = time.time() - interval_s
    lab.write()
    lab.note("learning")


def _settle(lab: Lab) -> None:
    """End the agents, and wait until all that they have said is written down: on a busy host that comes late."""
    states = ask(lab, "states")["states"]
    for machine in lab.agents:
        if states[machine.name] in ("running", "paused"):
            ask(lab, "kill", {"machine": machine.name})
    deadline_s, num, since_s = time.monotonic() + WRITTEN_S, -1, time.monotonic()
    while time.monotonic() < min(deadline_s, since_s + QUIET_S):
        told = ask(lab, "recorded")["num"]
        if told != num:
            num, since_s = told, time.monotonic()
        time.sleep(LOOK_EVERY_S)


def _rounds(lab: Lab, without: set[str]) -> dict[str, int]:
    heard: dict[str, Any] = ask(lab, "recorded")["rounds"]
    return {peer.name: int(heard.get(lab.peer_ids[peer.name], 0)) for peer in lab.peers if peer.name not in without}


def _rejected(lab: Lab) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for status in statuses_of(lab, lab.agents).values():
        counts.update(status.get("rejected", {}))
    return dict(counts)
