"""The engine whose machines are containers, with the processor and memory that their profiles have.

    container ──network of the lab──▶ its gateway: this host ──Lines──▶ 127.0.0.1:PORT ──▶ the broker's container

Containers do not reach each other, but this host, where the lines begin (`lines.py`): so what a line does, delay,
limit, cut, holds for whatever passes between a machine and a broker, on any kernel. A machine's folder is at the same
path in its container, whose user is ours (10001 where we are root), so that its control socket is ours to ask.

All that is made bears the lab's labels, by which `remove` finds it, from any process. A warden (`warden.py`) does so by
itself when the process that uses the engine ends without it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from grapevine_lab.proxy import HERE
from grapevine_lab.testbed.docker_access import connect, told
from grapevine_lab.testbed.engine import EngineName, Machine, MachineState
from grapevine_lab.testbed.images import check_images, image_of, name_of
from grapevine_lab.testbed.lines import Lines
from grapevine_lab.testbed.reach import check_reach
from grapevine_lab.testbed.room import check_room
from grapevine_lab.testbed.warden import Warden
from grapevine_proto.errors import ConfigError, GrapevineError

LABEL: Final = "org.grapevine.lab"
USER_OF_ROOT: Final = 10001
GOODBYE_S: Final = 8
MOST_AT_ONCE: Final = 8
MOST_PROCESSES: Final = 512
_TAKEN: Final = ("port is already allocated", "address already in use")


class DockerEngine:
    """See the module's docstring, and `Engine` for the methods."""

    name: EngineName = "docker"
    listens_on = "0.0.0.0"  # noqa: S104 - of the container, whose port is published on 127.0.0.1 alone

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._lab = name
        self._labels = {LABEL: name, f"{LABEL}.folder": str(folder.absolute())}
        self._the_client: Any = None
        self._the_lines: Lines | None = None
        self._warden: Warden | None = None
        self._killed: set[str] = set()

    def check(self, machines: Iterable[Machine]) -> None:
        """See `Engine`."""
        machines = tuple(machines)
        check_images(self._client, {each.kind for each in machines})
        with told("asking Docker what it can hold machines to"):
            able = self._client.info()
        if any(each.memory_mb for each in machines) and not able.get("MemoryLimit", True):
            raise ConfigError(
                "this kernel holds no container to a memory limit: boot it with `cgroup_enable=memory` (Raspberry Pi: "
                "in cmdline.txt), or take `--engine processes`"
            )
        check_room(machines)
        try:
            check_reach(self._client, name_of("relay"), self._network(), self.lines.host, self._labels)
        except GrapevineError:
            self.remove()
            raise

    def host_of(self, broker: Machine, *, seen_by: Machine | None) -> tuple[str, int]:
        """See `Engine`."""
        if seen_by is None:
            return HERE, broker.port
        return self.lines.host, self.lines.port(seen_by.name, broker.name, broker.port)

    def start(self, machine: Machine) -> None:
        """See `Engine`."""
        match self.state(machine.name):
            case "running" | "paused":
                raise GrapevineError(f"{machine.name} runs already")
            case "absent":
                self._create(machine)
        self._begin(machine.name)

    def stop(self, name: str) -> None:
        """See `Engine`."""
        self._do(name, "stopping", _stop)

    def kill(self, name: str) -> None:
        """See `Engine`."""
        self._do(name, "killing", _kill)
        self._killed.add(name)

    def pause(self, name: str) -> None:
        """See `Engine`."""
        self._check_alive(name)
        self._do(name, "pausing", lambda container: container.pause())

    def resume(self, name: str) -> None:
        """See `Engine`."""
        self._check_alive(name)
        self._do(name, "resuming", _unpause)

    def restart(self, name: str) -> None:
        """See `Engine`."""
        self._do(name, "stopping", _stop)
        self._begin(name)

    def state(self, name: str) -> MachineState:
        """See `Engine`."""
        container = self._find(name)
        if container is None:
            return "absent"
        if container.status in ("running", "restarting"):
            return "running"
        if container.status == "paused":
            return "paused"
        return "killed" if name in self._killed else "stopped"

    def logs(self, name: str, tail: int | None) -> str:
        """See `Engine`."""
        said: list[bytes] = []
        self._do(name, "reading the log", lambda each: said.append(each.logs(tail="all" if tail is None else tail)))
        return said[0].decode(errors="replace")

    def remove(self) -> None:
        """See `Engine`. Agents say goodbye while their brokers are there, if it is we who use them."""
        containers = self._all()
        orderly = self._the_lines is not None
        for of_brokers in (False, True):
            those = [each for each in containers if (each.labels.get(f"{LABEL}.kind") == "broker") == of_brokers]
            with ThreadPoolExecutor(MOST_AT_ONCE) as several:
                list(several.map(lambda each: _remove(each, orderly=orderly), those))
        with told("removing the lab's network"):
            for network in self._client.networks.list(filters={"label": self._filters()}):
                with _gone_already():
                    network.remove()
        if self._the_lines is not None:
            self._the_lines.close()
            self._the_lines = None
        if self._warden is not None:
            self._warden.release()
            self._warden = None

    # --- what it is made of ---------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        if self._the_client is None:
            self._the_client = connect()
        return self._the_client

    @property
    def lines(self) -> Lines:
        """See `Engine`. They begin at the network's gateway, an address of this host that containers reach."""
        if self._the_lines is None:
            self._network()
            with told("asking for the lab's network"):
                (network,) = self._client.networks.list(filters={"label": self._filters()})
                network.reload()
            self._the_lines = Lines(host=network.attrs["IPAM"]["Config"][0]["Gateway"])
        return self._the_lines

    def _network(self) -> str:
        """The lab's own, made when it is needed first; its containers do not reach each other."""
        name = f"grapevine-{self._lab}"
        if self._warden is None:
            self._warden = Warden(self._folder, self._lab)
        with told(f"making the network {name}"):
            if not self._client.networks.list(filters={"label": self._filters()}):
                self._client.networks.create(
                    name,
                    driver="bridge",
                    labels=self._labels,
                    options={"com.docker.network.bridge.enable_icc": "false"},
                )
        return name

    def _create(self, machine: Machine) -> None:
        image = image_of(machine.kind)
        user = give(machine.folder)
        if os.getuid() == 0:
            self._folder.chmod(self._folder.stat().st_mode | 0o011)
        with told(f"making a container of {image} for {machine.name}"):
            self._client.containers.create(
                image,
                command=list(machine.command),
                entrypoint=[],
                name=f"grapevine-{self._lab}-{machine.name}",
                hostname=machine.name,
                labels=self._labels | {f"{LABEL}.machine": machine.name, f"{LABEL}.kind": machine.kind},
                user=user,
                working_dir=str(machine.folder),
                environment=_environment(machine),
                volumes=self._mounts(machine),
                network=self._network(),
                ports={f"{machine.port}/tcp": (HERE, machine.port)} if machine.port else {},
                healthcheck={"test": ["NONE"]},  # the lab asks its control socket itself
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                tmpfs={"/tmp": "rw,nosuid,size=64m"},  # noqa: S108 - the container's own
                pids_limit=MOST_PROCESSES,
                log_config={"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}},
                **_limits(machine, self._client.info()["NCPU"]),
            )

    def _mounts(self, machine: Machine) -> dict[str, dict[str, str]]:
        """A machine's own folder, and for who publishes those of the lab, to be read: tasks lie there."""
        own, lab = str(machine.folder.absolute()), str(self._folder.absolute())
        mounts = {own: {"bind": own, "mode": "rw"}}
        if machine.kind == "engineer":
            mounts[lab] = {"bind": lab, "mode": "ro"}
        if machine.folder.absolute().is_relative_to("/root"):
            # An image's own is closed to its user, who has to pass; a tmpfs there would take over its rights.
            passage = self._folder / "passage"
            passage.mkdir(mode=0o755, exist_ok=True)
            mounts[str(passage.absolute())] = {"bind": "/root", "mode": "rw"}
        return mounts

    def _begin(self, name: str) -> None:
        self._killed.discard(name)
        try:
            self._do(name, "starting", lambda container: container.start())
        except GrapevineError as error:
            if any(words in str(error) for words in _TAKEN):
                raise ConfigError(
                    f"a port that {name} was to listen on is taken: try again, or stop what listens there ({error})"
                ) from error
            raise

    # --- what there is ----------------------------------------------------------------------------------

    def _filters(self) -> list[str]:
        return [f"{key}={value}" for key, value in self._labels.items()]

    def _all(self, *more: str) -> list[Any]:
        with told("looking for the lab's containers"):
            found: list[Any] = self._client.containers.list(
                all=True, filters={"label": [*self._filters(), *more]}, ignore_removed=True
            )
        return found

    def _find(self, name: str) -> Any:
        return next(iter(self._all(f"{LABEL}.machine={name}")), None)

    def _do(self, name: str, doing: str, what: Callable[[Any], object]) -> None:
        container = self._find(name)
        if container is None:
            raise GrapevineError(f"{name} has not been started")
        with told(f"{doing}: {name}"):
            what(container)

    def _check_alive(self, name: str) -> None:
        if self.state(name) not in ("running", "paused"):
            raise GrapevineError(f"{name} does not run; start it with: grapevine lab restart {name}")


def _environment(machine: Machine) -> dict[str, str]:
    """One thread for each machine's arithmetic: they share this host's few cores."""
    return {
        "GRAPEVINE_CONFIG": str(machine.folder / "agent.toml"),
        "HOME": str(machine.folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _limits(machine: Machine, cores_here: int) -> Mapping[str, object]:
    """As the engine is told them. No machine has more cores than this host."""
    limits: dict[str, object] = {}
    if machine.memory_mb:
        # No swap beyond: a board has none, or one that is too slow to train with.
        limits |= {"mem_limit": f"{machine.memory_mb}m", "memswap_limit": f"{machine.memory_mb}m"}
    if machine.cpus:
        limits["nano_cpus"] = int(min(machine.cpus, cores_here) * 1e9)
    return limits


def give(folder: Path) -> str:
    """Let containers have a folder and all in it. Their user, as Docker is told it: ours, or where we are root its own.

    Links are not followed: a machine may have laid them.
    """
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    for root, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(root) / name, USER_OF_ROOT, USER_OF_ROOT, follow_symlinks=False)
    return f"{USER_OF_ROOT}:{USER_OF_ROOT}"


def _unpause(container: Any) -> None:
    if container.status == "paused":
        container.unpause()


def _stop(container: Any) -> None:
    _unpause(container)
    container.stop(timeout=GOODBYE_S)


def _kill(container: Any) -> None:
    _unpause(container)
    if container.status != "exited":
        container.kill()
        container.wait(timeout=GOODBYE_S)


def _remove(container: Any, *, orderly: bool) -> None:
    with told(f"removing the container {container.name}"), _gone_already():
        if orderly:
            _stop(container)
        container.remove(force=True, v=True)


@contextlib.contextmanager
def _gone_already() -> Any:
    """What somebody else is removing at the same moment is removed."""
    import docker.errors  # noqa: PLC0415

    try:
        yield
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.response is None or error.response.status_code != 409:
            raise
