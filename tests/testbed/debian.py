"""A bare Debian in a container, with systemd in charge where that can be had, and our package for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.image import NoImageError, ensure_debian

BUILD = Path(__file__).parents[2] / "agent/packaging/debian/build.py"
PYTHON = Path("/usr/bin/python3")  # Debian's own, as in the container
OLD = "0.0.9-1"
ADDED = "opt/grapevine/lib/gone_since"
BOOT_S, BUILD_S = 60.0, 900.0
# systemd takes over a container that may mount and has a cgroup tree of its own; ours, since the engine's may be of
# the first version, which newer releases of systemd do not know.
_ENGINE = ["--cap-add=ALL", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
_MOUNTS = ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp", "--cgroupns=private", "--env=container=docker"]
_INIT = (
    "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
    " && exec /sbin/init systemd.unified_cgroup_hierarchy=1"
)


@dataclass(frozen=True)
class Machine:
    """A container. `says` is what it runs under, for whoever reads the test's log."""

    name: str
    has_systemd: bool

    def run(self, command: str, *, check: bool = True) -> str:
        """Have a shell of root run it; what it said on both streams."""
        done = self._shell(command)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def succeeds(self, command: str) -> bool:
        """Whether it ends with 0."""
        return self._shell(command).returncode == 0

    def bring(self, file: Path) -> str:
        """Copy a file to /root; its path there."""
        _docker("cp", str(file), f"{self.name}:/root/").check_returncode()
        return f"/root/{file.name}"

    def wait(self, command: str, within_s: float = 60.0) -> None:
        """Until it succeeds."""
        until = time.monotonic() + within_s
        while not self.succeeds(command):
            assert time.monotonic() < until, (
                f"{command} does not come true:\n{self.run('journalctl -n 50', check=False)}"
            )
            time.sleep(0.3)

    def remove(self) -> None:
        """With all that is in it."""
        _docker("rm", "--force", self.name)

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return _docker("exec", self.name, "sh", "-c", command)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    """What the engine answers, on both streams."""
    return subprocess.run(
        ["docker", *words],
        check=False,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )


@contextmanager
def machine(*, with_systemd: bool) -> Iterator[Machine]:
    """A new one, gone afterwards. Raises `NoImageError` where there is no engine, or systemd does not come up in it."""
    image = ensure_debian()
    made = Machine(f"grapevine-test-{time.monotonic_ns()}", with_systemd)
    # The engine may hold fewer capabilities than there are, and refuses what it has not.
    for capabilities in (_ENGINE, [*_ENGINE, "--cap-drop=SYS_RESOURCE"]):
        options = [*capabilities, *_MOUNTS] if with_systemd else []
        command = _INIT if with_systemd else "exec sleep infinity"
        started = _docker(
            *("run", "--detach", "--network=none", "--name", made.name), *options, image, "sh", "-c", command
        )
        if started.returncode == 0:
            break
        made.remove()
    else:
        raise NoImageError(f"no container can be started: {started.stdout[-300:]}")
    try:
        if with_systemd and not _boots(made):
            raise NoImageError("systemd does not come up in a container here: the other test installs without it")
        yield made
    finally:
        made.remove()


def _boots(made: Machine) -> bool:
    until = time.monotonic() + BOOT_S
    while time.monotonic() < until:
        if made.succeeds("systemctl is-system-running | grep -qE 'running|degraded'"):
            return True
        time.sleep(0.5)
    return False


def built_package(folder: Path) -> Path:
    """The package without PyTorch, of this checkout. Raises `NoImageError` where it cannot be built.

    `GRAPEVINE_DEB` names one that was built already.
    """
    if ready := os.environ.get("GRAPEVINE_DEB"):
        return Path(ready)
    for needed in (str(PYTHON), "dpkg-deb"):
        if shutil.which(needed) is None:
            raise NoImageError(f"needs {needed}: this is no Debian")
    if subprocess.run([PYTHON, "-m", "pip", "--version"], check=False, capture_output=True, timeout=60).returncode:
        raise NoImageError("needs the pip of Debian's Python: apt-get install python3-pip")
    command: list[str | Path] = [PYTHON, BUILD, "--no-train", "--compress", "gzip:1", "--out", folder]
    subprocess.run(command, check=True, timeout=BUILD_S)
    (deb,) = folder.glob("grapevine_*.deb")
    return deb


def as_before(deb: Path, folder: Path) -> Path:
    """The package as its predecessor might have been: an older version, with a file that there is no more."""
    tree = folder / "before"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True, timeout=300)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text("\n".join(f"Version: {OLD}" if line.startswith("Version:") else line for line in lines) + "\n")
    (tree / ADDED).write_text("an old file\n")
    before = folder / f"grapevine_{OLD}.deb"
    subprocess.run(
        ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, before], check=True, timeout=300
    )
    shutil.rmtree(tree)
    return before
