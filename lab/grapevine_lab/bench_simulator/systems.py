"""A system that is compared: how it is prepared and started."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from grapevine_broker.mosquitto import find_mosquitto
from grapevine_lab.bench_simulator.ours import check_ours
from grapevine_lab.bench_simulator.peers import Peer, PeerMissingError, Say, Weight, ensure_installed
from grapevine_lab.bench_simulator.runs import Command
from grapevine_lab.bench_simulator.workload import Workload
from grapevine_proto import distribution
from grapevine_proto.errors import BrokerError

Kind: TypeAlias = Literal[
    "simulated", "real"
]  # nodes in as many processes as it likes; each node a process and sockets
Ports: TypeAlias = Literal["none", "one", "each", "one and each"]  # who listens: nobody, a hub, every node, both
_PEER_CODE = Path(__file__).parent / "peer_code"
_CHECKOUT = Path(__file__).parents[3]
OURS = "grapevine-learning"
_SHORT = 40  # characters of a path below which Ray can still make its sockets, whose names the kernel limits


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A system that can be started, and the versions behind its figures."""

    versions: dict[str, str]
    command: Callable[[Workload, Path, Path], Command]  # of a workload, its folder and its plan
    weight: Weight = field(default_factory=Weight)  # of its environment


@dataclass(frozen=True, kw_only=True)
class System:
    """One of those that are compared."""

    name: str
    set_up: str  # one paragraph, printed below the table
    prepare: Callable[[Path, Say], Prepared]  # given the folder of environments; raises PeerMissingError
    kind: Kind = "simulated"
    ports: Ports = "none"
    node_mb: int = 0  # of memory that a node needs, roughly: it is not started where there is less

    def lacks_memory(self, num_nodes: int, available_bytes: int) -> str:
        """Why so many nodes cannot be started; empty if they can."""
        needed_mb, available_mb = num_nodes * self.node_mb, available_bytes // 1_000_000
        if needed_mb <= available_mb:
            return ""
        return f"{num_nodes} nodes need about {needed_mb:,} MB of memory, and {available_mb:,} MB are free: take fewer"

    def num_ports(self, num_nodes: int) -> int:
        """How many ports the harness finds for it. The first one is the hub's, where there is one."""
        return {"none": 0, "one": 1, "each": num_nodes, "one and each": 1 + num_nodes}[self.ports]


@dataclass(frozen=True, kw_only=True)
class PeerSystem:
    """Prepares a peer: installs it, and starts one of the modules of `peer_code` in its environment."""

    peer: Peer
    module: str
    environment: dict[str, str] = field(default_factory=dict)
    folder_variables: tuple[str, ...] = ()  # of the environment: where the peer is to put what it would leave behind
    needs_mosquitto: bool = False

    def prepare(self, root: Path, say: Say) -> Prepared:
        """Install it, unless it is there. Raises PeerMissingError."""
        mosquitto = _mosquitto() if self.needs_mosquitto else ""
        installed = ensure_installed(self.peer, root, say)

        def command(_workload: Workload, folder: Path, plan: Path) -> Command:
            visible = folder / "import"  # nothing but that one package
            visible.mkdir()
            (visible / _PEER_CODE.name).symlink_to(_PEER_CODE)
            environment = {"PYTHONPATH": str(visible), **self.environment}
            if len(str(folder)) < _SHORT:
                environment |= dict.fromkeys(self.folder_variables, str(folder))
            if mosquitto:
                environment["BENCH_MOSQUITTO"] = mosquitto
            return Command(
                arguments=[str(installed.python), "-m", f"{_PEER_CODE.name}.{self.module}", str(plan)],
                environment=environment,
                folder=folder,
            )

        return Prepared(versions=installed.versions, command=command, weight=installed.weight)


@dataclass(frozen=True, kw_only=True)
class OurSystem:
    """Prepares one of ours, which runs in this very environment.

    Where `weighs`, one is made as a user would have it, with what is needed for this alone, and weighed.
    """

    arguments: Callable[[Workload, Path, Path], list[str]]
    extra: str
    needs_mosquitto: bool = False
    weighs: bool = False

    def prepare(self, root: Path, say: Say) -> Prepared:
        """See that it can be run. Raises PeerMissingError."""
        if self.needs_mosquitto:
            _mosquitto()
        check_ours()

        def command(workload: Workload, folder: Path, plan: Path) -> Command:
            return Command(
                arguments=self.arguments(workload, folder, plan.with_name("samples.npz")),
                environment={"OPENBLAS_NUM_THREADS": "1"},  # of numpy beside PyTorch, as the devices' service has it
            )

        versions = {"grapevine": distribution.version()}
        versions |= {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
        return Prepared(versions=versions, command=command, weight=self._weight(root, say))

    def _weight(self, root: Path, say: Say) -> Weight:
        if not (self.weighs and (_CHECKOUT / "pyproject.toml").is_file()):
            return Weight()
        ours = Peer(
            distribution=OURS,
            version=distribution.version(),
            extra=self.extra,
            source=str(_CHECKOUT),
            probe="import grapevine_agent, torch",
            named=(),
        )
        try:
            return ensure_installed(ours, root, say).weight
        except PeerMissingError as error:  # it runs all the same
            say(f"{OURS}[{self.extra}] cannot be weighed: {error}")
            return Weight()


def _mosquitto() -> str:
    try:
        return find_mosquitto()
    except BrokerError as error:
        raise PeerMissingError(str(error)) from None
