"""`lab up`, `lab run` and `lab report`, whole: what was begun is ended again, whatever comes between."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from grapevine_lab.simulator.experiment import Prepared, prepare
from grapevine_lab.simulator.scenario import scenario_of
from grapevine_lab.testbed.acting import ask
from grapevine_lab.testbed.engine import EngineName
from grapevine_lab.testbed.engines import make_engine
from grapevine_lab.testbed.measuring import beside_simulated, measure
from grapevine_lab.testbed.plan import changes_of, scenario_content
from grapevine_lab.testbed.possible import check_possible
from grapevine_lab.testbed.report import comparison_as_json, write_all
from grapevine_lab.testbed.running import run_timeline
from grapevine_lab.testbed.starting import Beginning, first_merge, make_lab, start_lab
from grapevine_lab.testbed.store import EVENTS, FILE, PASSED, TIMELINE, Lab, folder_for
from grapevine_proto.errors import GrapevineError

FIRST_MERGE_S: Final = 120.0
DASHBOARD_LOG: Final = "dashboard.log"
DASHBOARD_S: Final = 20.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a command asks for. `scenario` "" is the plain one; None and "" leave its keys as they are."""

    scenario: str
    engine: str = "processes"
    name: str
    folder: Path | None = None
    quick: bool = False
    dashboard: bool = False
    peers: int | None = None
    brokers: int | None = None
    server: bool = False
    task: str = ""
    profiles: str = ""
    changes: tuple[str, ...] = ()


def bring_up(wanted: Wanted, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a lab and leave it. Raises GrapevineError, with nothing left."""
    with _begun(wanted, say) as beginning:
        lab, began_s = beginning.lab, time.monotonic()
        start_lab(beginning, say)
        up_s = time.monotonic() - began_s
        scenario = beginning.prepared.scenario
        if scenario.faults or scenario.words or scenario.network.cuts:
            say("the scenario's timeline is not done here: grapevine lab run does it")
        url = _show(lab, say) if wanted.dashboard else ""
        merge_s = first_merge(lab, FIRST_MERGE_S) if not scenario.words else None
        beginning.adopt()
    return {
        "name": lab.name,
        "folder": str(lab.folder),
        "engine": lab.engine,
        "task": lab.task,
        "num_peers": len(lab.peers),
        "num_brokers": len(lab.brokers),
        "up_s": up_s,
        "first_merge_s": merge_s,
        "dashboard": url,
    }


def run_through(wanted: Wanted, out: Path | None, *, simulated: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a lab, let its timeline happen, write the report, remove it. Raises GrapevineError, with nothing left."""
    stem = Path(wanted.scenario).stem
    name = wanted.name or re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_") or "run"
    out = out or Path("testbed-runs") / (stem + ("-quick" if wanted.quick else ""))
    with _begun(wanted, say, name) as beginning:
        lab, prepared = beginning.lab, beginning.prepared
        start_lab(beginning, say)
        if wanted.dashboard:
            say(f"dashboard: {_show(lab, say)}")
        ran = run_timeline(lab, prepared, say)
        beginning.end()
        try:
            told = _report(lab, prepared, out, simulated=simulated, say=say)
        except Exception:
            say(f"what was written down is kept in {_rescue(lab, out)}")
            raise
        lab.remove()
    return {**told, "in_time": ran.in_time, "took_s": ran.took_s, "failed": list(ran.failed), "rejected": ran.rejected}


def _rescue(lab: Lab, out: Path) -> Path:
    """Keep what a run has written down, of which no report could be made: it may have taken hours."""
    place = out / "raw"
    place.mkdir(parents=True, exist_ok=True)
    for name in (FILE, TIMELINE, PASSED, EVENTS):
        if (lab.folder / name).exists():
            shutil.copy(lab.folder / name, place / name)
    return place


def report_on(lab: Lab, out: Path, *, simulated: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the report of a lab that is up."""
    prepared = prepare(lab.scenario)
    return _report(lab, prepared, out, simulated=simulated, say=say)


def _report(lab: Lab, prepared: Prepared, out: Path, *, simulated: bool, say: Callable[[str], None]) -> dict[str, Any]:
    measured = measure(lab, prepared)
    if simulated:
        try:
            measured = beside_simulated(measured, prepared, lab.seed, say=say)
        except GrapevineError as error:
            say(f"the report is without a simulation, which did not work: {error}")
    return {**write_all(lab, prepared, measured, out), "compared": comparison_as_json(measured)}


@contextmanager
def _begun(wanted: Wanted, say: Callable[[str], None], name: str = "") -> Iterator[Beginning]:
    """A lab that is made; removed again unless all goes well. A signal ends it, and this process, in an orderly way."""
    name = name or wanted.name
    folder = folder_for(name, wanted.folder)
    engine: EngineName = make_engine(wanted.engine, folder, name).name
    changes = changes_of(
        peers=wanted.peers,
        brokers=wanted.brokers,
        server=wanted.server,
        task=wanted.task,
        profiles=wanted.profiles,
        others=wanted.changes,
    )
    content, path = scenario_content(wanted.scenario, quick=wanted.quick, changes=changes)
    scenario = scenario_of(content, path.parent, path.name)
    check_possible(scenario)
    with _ended_by_signals() as may_end:
        say(f"lab {name}: building the task, dealing out samples")
        prepared = prepare(scenario)
        beginning = make_lab(prepared, content, path, name=name, folder=folder, engine=engine, seed=scenario.seed)
        try:
            yield beginning
        except BaseException:
            may_end.clear()
            say("ending every machine")
            beginning.abandon()
            raise


@contextmanager
def _ended_by_signals() -> Iterator[set[int]]:
    """Within it, a signal of the set that is given ends this process by an exception; of others nothing comes."""
    may_end: set[int] = set(SIGNALS)

    def stop(number: int, _frame: FrameType | None) -> None:
        if number in may_end:
            may_end.clear()
            sys.exit(128 + number)

    hung_up = signal.getsignal(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    if hung_up is signal.SIG_IGN:  # by nohup: a terminal that is closed is to be outlived
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield may_end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(lab: Lab, say: Callable[[str], None]) -> str:
    """Start the lab's dashboard; where it is, "" if it does not start."""
    command = [
        sys.executable,
        "-m",
        "grapevine_agent",
        "dashboard",
        "--lab",
        str(lab.folder),
        "--port",
        "0",
        "--no-open",
    ]
    ask(lab, "beside", {"command": command, "log": DASHBOARD_LOG})
    log, deadline_s = lab.folder / DASHBOARD_LOG, time.monotonic() + DASHBOARD_S
    while time.monotonic() < deadline_s:
        text = log.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith("dashboard: "):
                return line.removeprefix("dashboard: ")
        time.sleep(0.1)
    say(f"the dashboard did not start: {text.strip()[-500:] or log}")
    return ""
