"""A lab from nothing to its first merge: its folder, its keeper, brokers, agents, and a task that is approved."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import NoAnswerError, NoServiceError
from grapevine_broker.probe import answers_mqtt
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.timeline import comes_at_s
from grapevine_lab.testbed.acting import ask
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.furnish import furnish, node_of, reviewers_of, task_folder
from grapevine_lab.testbed.plan import machines_of
from grapevine_lab.testbed.possible import check_possible
from grapevine_lab.testbed.store import KEEPER_LOG, Lab
from grapevine_proto.errors import GrapevineError

ROOT_PREFIX: Final = "grapevine/lab-"
READY_S: Final = 60.0
READY_EACH_S: Final = 6.0  # for each machine more, on a small and busy host
POLL_S: Final = 0.2
AT_ONCE: Final = 16  # agents that are asked at once
MEET_S: Final = 20.0


@dataclass(kw_only=True)
class Beginning:
    """A lab that is being made, and the pipe that holds its keeper until `adopt`."""

    lab: Lab
    prepared: Prepared
    keeper: subprocess.Popen[bytes]

    def adopt(self) -> None:
        """Let the lab stay when this process ends."""
        ask(self.lab, "adopt")
        self.lab.is_up = True
        self.lab.write()
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.returncode = 0  # it is nobody's child any more, and nobody waits for it

    def end(self) -> None:
        """End all machines, and the keeper. What they have left behind stays."""
        with contextlib.suppress(GrapevineError):
            ask(self.lab, "down")
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper.wait()

    def abandon(self) -> None:
        """Remove everything again, and wait until it is gone."""
        self.end()
        self.lab.remove()


def make_lab(
    prepared: Prepared, content: Mapping[str, Any], path: Path, *, name: str, folder: Path, engine: str, seed: int
) -> Beginning:
    """Make a lab's folder and start its keeper; nothing runs yet.

    Raises:
        ConfigError: Real machines cannot follow the scenario, or they cannot be run here.
        GrapevineError: The keeper does not start.
    """
    check_possible(prepared.scenario)
    lab = Lab(
        folder=folder,
        name=name,
        engine=engine,
        seed=seed,
        root=ROOT_PREFIX + secrets.token_hex(4),
        source=path.name,
        base=path.parent,
        content=content,
        machines=machines_of(prepared, folder),
    )
    try:
        lab.lay()
        keeper = _start_keeper(lab)
    except BaseException:
        lab.remove()
        raise
    beginning = Beginning(lab=lab, prepared=prepared, keeper=keeper)
    try:
        ask(lab, "check")
        hosts = ask(lab, "hosts")
        furnish(
            lab,
            prepared,
            host_of=lambda broker, machine: tuple(hosts["hosts"][machine][broker]),
            listens_on=hosts["listens_on"],
        )
        lab.write()
    except BaseException:
        beginning.abandon()
        raise
    return beginning


def _start_keeper(lab: Lab) -> subprocess.Popen[bytes]:
    with (lab.folder / KEEPER_LOG).open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "grapevine_lab.testbed.keeper", str(lab.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    lab.keeper_pid = keeper.pid
    deadline_s = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(NoServiceError, NoAnswerError):
            call(lab.keeper, "recorded")
            return keeper
        if keeper.poll() is not None or time.monotonic() > deadline_s:
            keeper.kill()
            keeper.wait()
            said = (lab.folder / KEEPER_LOG).read_text(encoding="utf-8", errors="replace").strip()
            raise GrapevineError(f"the lab's own process did not start: {said[-1500:]}")
        time.sleep(POLL_S / 4)


def start_lab(beginning: Beginning, say: Callable[[str], None]) -> None:
    """Start brokers and agents, publish the task and have it approved; `lab.began_s` is when that was done.

    Peers that come later by the scenario's faults, and a server that does, are left out.

    Raises:
        GrapevineError: A machine ended, or did not do its part in time.
    """
    lab, scenario = beginning.lab, beginning.prepared.scenario
    limit_s = READY_S + READY_EACH_S * len(lab.machines)
    say(f"{len(lab.brokers)} broker{'s' if len(lab.brokers) > 1 else ''}, {len(lab.agents)} agents: {lab.engine}")
    for machine in lab.brokers:
        ask(lab, "start", {"machine": machine.name})
    hosts = ask(lab, "hosts")["hosts"][""]
    for machine in lab.brokers:
        _until(lambda machine=machine: answers_mqtt(*hosts[machine.name]), limit_s, lab, machine, "answer")  # type: ignore[misc]
    ask(lab, "listen", timeout_s=limit_s + READY_S)
    _shape_lines(lab, scenario)
    present = [each for each in lab.agents if begins_at_s(scenario, each) == 0]
    for machine in present:
        ask(lab, "start", {"machine": machine.name})
    _all_of(lab, present, lambda status: bool(status["connected"]), "connect to its broker", limit_s)
    lab.note("connected")
    _meet(lab, present)
    if scenario.review is None:
        _publish(lab, limit_s)
    lab.began_s = time.time()
    lab.note("began")
    lab.write()


def delay_ms_of(latency_s: float) -> float:
    """Of a machine's lines, for a latency from node to node."""
    return latency_s * 500


def _shape_lines(lab: Lab, scenario: Scenario) -> None:
    """What the scenario says of lines: from node to node is twice the way to the broker in the middle."""
    network = scenario.network
    kbit = 0.0 if network.up_bps == float("inf") else network.up_bps / 1000
    for machine in lab.agents:
        if machine.kind in ("peer", "server"):
            params = {"machine": machine.name, "delay_ms": delay_ms_of(network.latency_s), "kbit_per_s": kbit}
            ask(lab, "shape", params)


def begins_at_s(scenario: Scenario, machine: Machine) -> float:
    """When a machine is started, after learning began; 0: before it."""
    if machine.kind == "server":
        return scenario.server.present[0][0]
    return comes_at_s(scenario.faults, node_of(machine)) if machine.kind == "peer" else 0.0


def _meet(lab: Lab, present: list[Machine]) -> None:
    """Let those who are there hear each other, for a while: in an overlay that is not small, they never all do."""
    least = min(len(present) - 1, 8)
    deadline_s = time.monotonic() + MEET_S
    waiting = list(present)
    while waiting and time.monotonic() < deadline_s:
        statuses = statuses_of(lab, waiting)
        waiting = [each for each in waiting if statuses[each.name].get("peers", {}).get("alive", 0) < least]
        time.sleep(POLL_S)


def _publish(lab: Lab, limit_s: float) -> None:
    """The engineer publishes, the reviewers approve; the last one's word sets the agents off."""
    params = {"folder": str(task_folder(lab)), "servers": lab.server_ids}
    lab.task = str(call(lab.socket(lab.machine("engineer")), "publish", params, READY_S)["task"])
    reviewers = [lab.machine(name) for name in reviewers_of(lab)]

    def knows(status: dict[str, Any]) -> bool:
        return any(line["id"] == lab.task for line in status["tasks"])

    _all_of(lab, reviewers, knows, "hear of the task", limit_s)
    for reviewer in reviewers:
        call(lab.socket(reviewer), "review", {"task": lab.task, "approved": True}, READY_S)


def first_merge(lab: Lab, limit_s: float) -> float | None:
    """Wait for a peer that has merged another's model; after how many seconds of `began_s`, None if nobody did."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        for status in statuses_of(lab, lab.peers).values():
            if any(line.get("merges", 0) > 0 for line in status.get("tasks", ())):
                return time.time() - lab.began_s
        time.sleep(POLL_S)
    return None


def statuses_of(lab: Lab, machines: Iterable[Machine]) -> dict[str, dict[str, Any]]:
    """What each agent says of itself, at once; of those that do not answer, nothing."""

    def status(machine: Machine) -> dict[str, Any]:
        with contextlib.suppress(GrapevineError):
            told: dict[str, Any] = call(lab.socket(machine), "status", timeout_s=5.0)
            return told
        return {}

    machines = list(machines)
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(machines) or 1)) as pool:
        return dict(zip((each.name for each in machines), pool.map(status, machines), strict=True))


def _all_of(
    lab: Lab, machines: Iterable[Machine], true: Callable[[dict[str, Any]], bool], what: str, limit_s: float
) -> None:
    deadline_s = time.monotonic() + limit_s
    waiting = list(machines)
    while waiting:
        statuses = statuses_of(lab, waiting)
        waiting = [each for each in waiting if not (statuses[each.name] and true(statuses[each.name]))]
        if waiting:
            _must_run(lab, waiting[0], deadline_s, what, limit_s, str(statuses[waiting[0].name].get("trouble", "")))
            time.sleep(POLL_S)


def _until(true: Callable[[], bool], limit_s: float, lab: Lab, machine: Machine, what: str) -> None:
    deadline_s = time.monotonic() + limit_s
    while not true():
        _must_run(lab, machine, deadline_s, what, limit_s, "")
        time.sleep(POLL_S / 4)


def _must_run(lab: Lab, machine: Machine, deadline_s: float, what: str, limit_s: float, trouble: str) -> None:
    """Raise `GrapevineError` if a machine has ended, or its time is over."""
    state = ask(lab, "states")["states"][machine.name]
    if state == "running" and time.monotonic() < deadline_s:
        return
    log = ask(lab, "logs", {"machine": machine.name, "tail": 12})
    why = f"did not {what} within {limit_s:g} s" if state == "running" else f"is {state}, and was to {what}"
    raise GrapevineError(f"{machine.name} {why}{': ' + trouble if trouble else ''}; the end of its log:\n{log}")
