"""The systems that are compared: how each is prepared, started, and what was done for or against it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from grapevine_lab.bench_simulator.ours import check_ours, run_ours
from grapevine_lab.bench_simulator.peers import Peer, Say, ensure_installed
from grapevine_lab.bench_simulator.runs import Command
from grapevine_lab.bench_simulator.workload import Workload
from grapevine_proto import distribution

_PEER_CODE = Path(__file__).parent / "peer_code"
_SHORT = 40  # characters of a path below which Ray can still make its sockets, whose names the kernel limits


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A system that can be started, and the versions behind its figures."""

    versions: dict[str, str]
    command: Callable[[Workload, Path, Path], Command]  # of a workload, its folder and its plan


@dataclass(frozen=True, kw_only=True)
class System:
    """One of those that are compared."""

    name: str
    set_up: str  # one paragraph, printed below the table
    prepare: Callable[[Path, Say], Prepared]  # given the folder of environments; raises PeerMissingError


@dataclass(frozen=True, kw_only=True)
class _PeerSystem:
    """Prepares a peer: installs it, and starts one of the modules of `peer_code` in its environment."""

    peer: Peer
    module: str
    environment: dict[str, str] = field(default_factory=dict)
    folder_variable: str = ""  # of the environment: where the peer is to put what it would leave behind

    def prepare(self, root: Path, say: Say) -> Prepared:
        installed = ensure_installed(self.peer, root, say)

        def command(_workload: Workload, folder: Path, plan: Path) -> Command:
            visible = folder / "import"  # nothing but that one package
            visible.mkdir()
            (visible / _PEER_CODE.name).symlink_to(_PEER_CODE)
            environment = {"PYTHONPATH": str(visible), **self.environment}
            if self.folder_variable and len(str(folder)) < _SHORT:
                environment[self.folder_variable] = str(folder)
            return Command(
                arguments=[str(installed.python), "-m", f"{_PEER_CODE.name}.{self.module}", str(plan)],
                environment=environment,
            )

        return Prepared(versions=installed.versions, command=command)


def _prepare_ours(_root: Path, _say: Say) -> Prepared:
    check_ours()

    def command(workload: Workload, folder: Path, plan: Path) -> Command:
        return Command(arguments=run_ours(workload, folder, plan.with_name("samples.npz")))

    versions = {"grapevine": distribution.version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    return Prepared(versions=versions, command=command)


FLOWER = _PeerSystem(
    peer=Peer(
        distribution="flwr",
        version="1.29.0",
        extra="simulation",
        probe="import ray, torch, flwr.app, flwr.clientapp, flwr.serverapp.strategy, flwr.simulation",
        named=("flwr", "ray"),
    ),
    module="flower_run",
    environment={"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    folder_variable="RAY_TMPDIR",
)
GOSSIPY = _PeerSystem(
    peer=Peer(
        distribution="gossipy-dfl",
        version="0.0.1",
        probe=(
            "import sys, types; sys.modules.setdefault('torchvision', types.ModuleType('torchvision')); "
            "import gossipy.simul, gossipy.data.handler"
        ),
        named=("gossipy-dfl",),
    ),
    module="gossipy_run",
    # One process that trains one small model after the other: a second thread costs more than it brings.
    environment={"OMP_NUM_THREADS": "1"},
)

SYSTEMS = (
    System(
        name="grapevine",
        set_up=(
            "grapevine: the device's own core in every node, over a broker in memory, with encoded messages; every "
            "node trains once a round and pushes to one random node of all, which averages. A round is over when the "
            "slowest node has finished it. Nothing is evaluated before the last one."
        ),
        prepare=_prepare_ours,
    ),
    System(
        name="flower",
        set_up=(
            "flower: FedAvg over all clients in every round; run_simulation() with Ray, one actor a core. "
            "For it: no evaluation, no dashboard, no telemetry; samples, model and optimiser are made once in each "
            "actor; no command-line service (flwr run) around it. As it comes: it looks for messages every 0.1 s."
        ),
        prepare=FLOWER.prepare,
    ),
    System(
        name="gossipy",
        set_up=(
            "gossipy: push to a random node of all, MERGE_UPDATE, no delay, no loss, no evaluation; on average every "
            "node trains once a round. For it: one thread (two are slower), no training before the first round, and "
            "torchvision is not imported. A subclass of its TorchModelHandler counts steps in place of epochs."
        ),
        prepare=GOSSIPY.prepare,
    ),
)
