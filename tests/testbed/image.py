"""Images for tests in containers, made on this machine where no registry can be reached: one with Mosquitto and what
ours are built on, and a bare Debian with systemd.

With debootstrap (and root) it is a minimal Debian of this machine's own release, fetched from the
mirror that this machine's own apt uses; that takes half a minute, once. Without, the official
image is pulled.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

TAG = "grapevine-test-base"
DEBIAN_TAG = "grapevine-test-debian"
# Beside a minimal Debian: systemd, a broker as Debian sets it up, and what our package depends on, since a test does
# not wait for a mirror.
_DEBIAN_HAS = ("systemd", "systemd-sysv", "mosquitto", "python3", "adduser", "libstdc++6")
# Mosquitto for brokers; Python for our own images.
_BASE_HAS = ("mosquitto", "python3", "python3-venv", "libstdc++6", "ca-certificates")
PUBLIC_IMAGE, PUBLIC_BASE = "eclipse-mosquitto:2", "python:3.11-slim-bookworm"
_BUILD_S = 400
_LEFT_OUT = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*", "./dev/*")


class NoImageError(Exception):
    """There is no way to an image on this machine; the message says which would help."""


def ensure_image() -> str:
    """Return the name of an image that has `mosquitto` and `sh`, building or pulling it the first time.

    Raises:
        NoImageError: No container engine answers, or neither way works.
    """
    _check_engine()
    for image in (TAG, PUBLIC_IMAGE):
        if _run(["docker", "image", "inspect", image], 30).returncode == 0:
            return image
    obstacle = _build(TAG, _BASE_HAS)
    if not obstacle:
        return TAG
    if _run(["docker", "pull", PUBLIC_IMAGE], 120).returncode == 0:
        return PUBLIC_IMAGE
    raise NoImageError(f"cannot build {TAG} ({obstacle}) nor pull {PUBLIC_IMAGE}: install debootstrap and run as root")


def ensure_base() -> str:
    """Return the name of an image that ours can be built on: Python and its venv. Raises `NoImageError`."""
    found = ensure_image()
    if found == TAG or _run(["docker", "image", "inspect", PUBLIC_BASE], 30).returncode == 0:
        return TAG if found == TAG else PUBLIC_BASE
    if _run(["docker", "pull", PUBLIC_BASE], 300).returncode != 0:
        raise NoImageError(f"cannot build {TAG} nor pull {PUBLIC_BASE}: install debootstrap and run as root")
    return PUBLIC_BASE


def ensure_debian() -> str:
    """Return the name of an image of a bare Debian with systemd, building it the first time.

    Raises:
        NoImageError: No container engine answers, or this machine cannot build it.
    """
    _check_engine()
    if _run(["docker", "image", "inspect", DEBIAN_TAG], 30).returncode != 0 and (
        obstacle := _build(DEBIAN_TAG, _DEBIAN_HAS)
    ):
        raise NoImageError(f"cannot build {DEBIAN_TAG} ({obstacle}): install debootstrap and run as root")
    return DEBIAN_TAG


def _check_engine() -> None:
    if shutil.which("docker") is None:
        raise NoImageError("needs a container engine: apt-get install docker.io")
    if _run(["docker", "info"], 30).returncode != 0:
        raise NoImageError("no container engine answers: start it with `dockerd >/tmp/dockerd.log 2>&1 &`")


def apt_mirror(release: str, folder: Path = Path("/etc/apt")) -> str | None:
    """Return the URI from which apt gets `main` of `release`, in either of its two formats; None without one."""
    for file in sorted([folder / "sources.list", *folder.glob("sources.list.d/*.list")]):
        for line in file.read_text().splitlines() if file.exists() else []:
            match = re.match(rf"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{re.escape(release)}\s+.*\bmain\b", line)
            if match:
                return str(match[1])
    for file in sorted(folder.glob("sources.list.d/*.sources")):
        for paragraph in file.read_text().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
            if release in fields.get("Suites", "").split() and "main" in fields.get("Components", "").split():
                return str(fields["URIs"].split()[0])
    return None


def _build(tag: str, packages: Sequence[str]) -> str:
    """Build an image; what stood in the way, or nothing."""
    release = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    mirror = apt_mirror(release[1]) if release else None
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        return "no debootstrap, or not root"
    if release is None or mirror is None:
        return "no Debian release or mirror is named in /etc/apt"
    with tempfile.TemporaryDirectory(prefix="grapevine-image-") as folder:
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", release[1], folder, mirror]
        if (made := _run(command, _BUILD_S)).returncode != 0:
            return f"debootstrap failed: {made.stdout[-300:]}"
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        with subprocess.Popen(["tar", "-C", folder, *left_out, "-c", "."], stdout=subprocess.PIPE) as packed:
            imported = subprocess.run(
                ["docker", "import", "-", tag],
                check=False,
                stdin=packed.stdout,
                capture_output=True,
                text=True,
                timeout=_BUILD_S,
            )
    return f"docker import failed: {imported.stderr[-300:]}" if imported.returncode else ""


def _run(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, stdout=f"no end after {timeout_s:g} s")


if __name__ == "__main__":
    print(ensure_image())  # noqa: T201
