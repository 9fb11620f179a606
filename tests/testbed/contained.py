"""Peers, servers and brokers in containers of our own images: `Household`, with an engine under it.

One image is enough: members are trained by the example of an owner's trainer (docs/examples/own_trainer.py), which runs
beside the agent in its container and needs no PyTorch.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.household import Household, Member, wait_for
from tests.swarm.digits import samples_of
from tests.testbed.image import NoImageError, ensure_base, ensure_image

from grapevine_broker.bridge import Bridge
from grapevine_broker.probe import claim_port
from grapevine_lab.proxy import HERE
from grapevine_lab.testbed.docker_access import connect
from grapevine_lab.testbed.docker_engine import DockerEngine
from grapevine_lab.testbed.engine import Machine, MachineKind
from grapevine_lab.testbed.images import build, gather_wheels
from grapevine_proto.errors import GrapevineError

CHECKOUT = Path(__file__).parents[2]
TRAINER = CHECKOUT / "docs/examples/own_trainer.py"
IMAGE, PREVIOUS_IMAGE = "grapevine-test-relay", "grapevine-test-previous"
# The release before this one: the last state of the code before Home Assistant, applications and the governor came.
PREVIOUS = "42beed2"
_LINEAR = """\
from torch import nn


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""
_BESIDE = "python own_trainer.py digits.npz 9000 & "
_TRAINED_BY = '[[trainer]]\nkind = "digits-8x8"\nurl = "http://127.0.0.1:9000"\n'


def built_image() -> str:
    """Our image without PyTorch, of this checkout's code. Raises `NoImageError`."""
    with _alone():
        return _build(IMAGE)


def previous_image() -> str:
    """The same of the release before this one, on today's libraries. Raises `NoImageError`."""
    with _alone(), tempfile.TemporaryDirectory(prefix="grapevine-previous-") as folder:
        with tempfile.TemporaryFile() as packed:
            command = ["git", "-C", str(CHECKOUT), "archive", PREVIOUS]
            if subprocess.run(command, check=False, stdout=packed, stderr=subprocess.DEVNULL).returncode:
                raise NoImageError(f"the commit of the previous release, {PREVIOUS}, is not in this clone: fetch it")
            packed.seek(0)
            with tarfile.open(fileobj=packed) as tar:
                tar.extractall(folder, filter="data")
        return _build(PREVIOUS_IMAGE, checkout=Path(folder), frame=CHECKOUT)


def _build(name: str, *, checkout: Path = CHECKOUT, frame: Path | None = None) -> str:
    base = ensure_base()
    pins = hashlib.sha256((CHECKOUT / "constraints.txt").read_bytes() + (CHECKOUT / "pyproject.toml").read_bytes())
    wheels = CHECKOUT / f".pytest_cache/wheels-{pins.hexdigest()[:12]}"  # a folder that git does not see
    if not any(wheels.glob("*.whl")):
        try:
            gather_wheels(wheels, ("broker", "discovery", "metrics"))
        except GrapevineError as obstacle:
            raise NoImageError(str(obstacle)) from obstacle
    return build(connect(), "relay", name=name, base=base, wheels=wheels, checkout=checkout, frame=frame)


@contextmanager
def _alone() -> Iterator[None]:
    """Tests in several processes build an image once."""
    with (Path(tempfile.gettempdir()) / "grapevine-test-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class ContainedMember(Member):
    """A member whose process is a container."""

    town: ContainedHousehold | None = None
    machine: Machine | None = None

    @property
    def engine(self) -> DockerEngine:
        assert self.town is not None
        return self.town.engine

    def log(self) -> str:
        return self.engine.logs(self.name, None)

    def start(self) -> None:
        assert self.machine is not None
        self.engine.start(self.machine)
        self.answers()

    def kill(self) -> None:
        self.engine.kill(self.name)

    def stop(self) -> int:
        self.engine.stop(self.name)
        return int(self.container().attrs["State"]["ExitCode"])

    def container(self) -> Any:
        container = self.engine._find(self.name)
        assert container is not None
        container.reload()
        return container

    def answers(self) -> None:
        wait_for(self.status, within_s=120, why=f"{self.name} answers")


@dataclass
class ContainedHousehold(Household):
    """A household in containers. Each member is at the broker of its name in `at`, or at the first one."""

    engine: DockerEngine = field(kw_only=True)
    brokers: dict[str, Machine] = field(default_factory=dict)

    def add_broker(self, name: str, *bridged_to: str, lines: str = "", files: tuple[Path, ...] = ()) -> Machine:
        """A Mosquitto of its own, running; `files` lie in its folder, where `lines` find them."""
        folder = self.folder / name
        folder.mkdir()
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        port = claim_port(HERE, 0)
        broker = Machine(
            name=name,
            kind="broker",
            folder=folder,
            command=("mosquitto", "-c", str(folder / "mosquitto.conf")),
            brokers=bridged_to,
            port=port,
        )
        text = f"listener {port} {self.engine.listens_on}\nallow_anonymous true\nmax_packet_size 1048576\n{lines}"
        for other in bridged_to:
            host, at = self.engine.host_of(self.brokers[other], seen_by=broker)
            text += Bridge(name=other, host=host, port=at, client_id=f"bridge-{name}", root=self.root).config()
        (folder / "mosquitto.conf").write_text(text)
        self.brokers[name] = broker
        self.engine.start(broker)
        return broker

    def move_in(
        self, name: str, *, at: str = "", learns: int | None = None, kind: MachineKind = "reviewer", **options: Any
    ) -> ContainedMember:
        """A member, not running yet; `learns`: which digits, by a trainer of the owner's."""
        broker = self.brokers[at] if at else next(iter(self.brokers.values()))
        machine = Machine(
            name=name,
            kind=kind,
            folder=self.folder / name,
            command=(),
            brokers=(broker.name,),
            memory_mb=1024,
            cpus=1.0,
        )
        host, port = self.engine.host_of(broker, seen_by=machine)
        self.url = f"{options.pop('scheme', 'mqtt')}://{host}:{port}"
        extra = options.pop("extra", "")
        plain = self.add(name, extra=extra + (_TRAINED_BY if learns is not None else ""), **options)
        role = "server" if kind == "server" else "agent"
        run = f"exec grapevine {role} run --config {plain.config}"
        if learns is not None:
            samples = samples_of(learns)
            np.savez(plain.folder / "digits.npz", x=samples.x * 16, y=samples.y)
            (plain.folder / TRAINER.name).write_text(TRAINER.read_text())
            run = _BESIDE + run
        machine = replace(machine, command=("sh", "-c", run))
        self.members.remove(plain)
        member = ContainedMember(name, plain.folder, role, town=self, machine=machine)
        self.members.append(member)
        return member

    def linear_task(self, *changes: tuple[str, str]) -> Path:
        """Digits by one linear layer, which the owner's trainer can train."""
        return self.built_task("linear", *changes, model=_LINEAR)

    def close(self) -> None:
        self.engine.remove()


@contextmanager
def contained_household(folder: Path, root: str, image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One whose members run `image`; nothing of it is left afterwards."""
    for variant in ("AGENT", "RELAY", "SERVER"):
        monkeypatch.setenv(f"LAB_IMAGE_{variant}", image)
    monkeypatch.setenv("LAB_IMAGE_BROKER", ensure_image())
    home = ContainedHousehold(folder, "", root, engine=DockerEngine(folder, root.replace("/", "-")))
    try:
        yield home
    finally:
        home.close()
