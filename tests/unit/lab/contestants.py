"""Systems that the comparisons of `bench_peers` can measure: a few lines of Python each."""

import sys
import textwrap
from pathlib import Path

from grapevine_lab.bench_peers.shelf import Folder
from grapevine_lab.bench_simulator.peers import PeerMissingError, Weight
from grapevine_lab.bench_simulator.runs import Command
from grapevine_lab.bench_simulator.suite import Contest, measure
from grapevine_lab.bench_simulator.systems import Kind, Ports, Prepared, System
from grapevine_lab.bench_simulator.workload import Workload

TELL = "import json, os, socket, sys, time\ndef tell(**event): print(json.dumps(event), flush=True)\n"
WORK = Workload(num_nodes=2, num_samples=10, num_rounds=3)
KILOBYTE = 1_000

# A hub that takes what comes, and a node that meets it where it is told to: a kilobyte a round.
TALKS = f"""
    (listen,), (meet,) = (map(int, os.environ[name].split(",")) for name in ("BENCH_LISTEN", "BENCH_MEET"))
    hub = socket.create_server(("127.0.0.1", listen))
    node = socket.create_connection(("127.0.0.1", meet))
    taken, _ = hub.accept()
    tell(event="nodes", pids=[os.getpid()])
    for number in (1, 2, 3):
        node.sendall(bytes({KILOBYTE}))
        got = 0
        while got < {KILOBYTE}:
            got += len(taken.recv({KILOBYTE}))
        tell(event="round", round=number, t=float(number), models=2 * number)
        time.sleep(0.2)
    tell(event="learned", accuracy=0.5)
    """


def code(text: str) -> list[str]:
    return [sys.executable, "-c", TELL + textwrap.dedent(text)]


def system(
    name: str, text: str, *, ports: Ports = "none", node_mb: int = 0, missing: str = "", kind: Kind = "real"
) -> System:
    def prepare(_environments: Path, _say: object) -> Prepared:
        if missing:
            raise PeerMissingError(missing)
        return Prepared(
            versions={name: "1"},
            command=lambda _workload, _folder, _plan: Command(arguments=code(text)),
            weight=Weight(download_bytes=2_000_000, installed_bytes=5_000_000),
        )

    return System(name=name, set_up=f"how {name} was set up", prepare=prepare, kind=kind, ports=ports, node_mb=node_mb)


def measured(systems: list[System], folder: Path, *, num_repeats: int = 1) -> list[Contest]:
    report = measure(
        systems,
        [WORK],
        num_repeats=num_repeats,
        environments=folder,
        say=lambda _: None,
        shelf=Folder(path=folder).shelf,
    )
    return report.contests
