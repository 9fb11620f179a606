"""The distribution that this code came in: its name, its version, and how to add to it what is missing here.

It is called `grapevine-learning`; `grapevine` on PyPI is somebody else's. The command and the packages keep their
names. A hint to install something has to fit the installation that it is about, or it changes another one:

    installed with   from                      the hint
    pip              an index                  pip install 'grapevine-learning[train]'
    pip              a checkout                pip install '/home/ada/grapevine[train]'
    pip              a wheel, a repository     pip install 'grapevine-learning[train] @ git+https://…'
    pip              … in a venv that is not   /home/ada/venv/bin/python -m pip install …
                     the shell's
    pipx, uv         any of these              pipx inject …, uv tool install --force …, uv pip install …
    dpkg             a package                 apt install ./grapevine-train_*.deb

It asks the packaging metadata, which takes a while, and only when there is something to hint at.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

NAME: Final = "grapevine-learning"
DEBIAN: Final = "dpkg"  # as the installer that a package of Debian's names
_UV_RECEIPT: Final = "uv-receipt.toml"
_CHECKOUT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """How this code was installed.

    `origin` is what `direct_url.json` says, empty for an index, None where there is no metadata: then the code
    runs from `checkout`, if that is one.
    """

    origin: dict[str, Any] | None
    installer: str  # what the metadata names: "pip", "uv", …
    prefix: Path  # the environment
    is_venv: bool
    is_active: bool  # a bare `pip` is that of this environment
    has_pip: bool
    checkout: Path | None

    @property
    def is_debian(self) -> bool:
        """Whether it came with a Debian package, whose files are apt's."""
        return self.installer == DEBIAN

    @property
    def _is_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").is_file()

    @property
    def _is_uv_tool(self) -> bool:
        return (self.prefix / _UV_RECEIPT).is_file()

    def to_add_extra(self, extra: str) -> str:
        """The command that adds an extra of ours."""
        if self.is_debian:
            if extra in ("train", "data"):  # a file that was built with ours: no archive has it
                return "apt install ./grapevine-train_*.deb"
            return f"pipx install '{NAME}[{extra}]'"  # what is in neither package, such as the lab, is for a checkout
        if self._is_pipx:
            return shlex.join(["pipx", "inject", self.prefix.name, *self._ours([extra])])
        if self._is_uv_tool:  # which makes the environment anew: what was asked for earlier is asked for again
            extras = sorted({*_uv_extras(self.prefix / _UV_RECEIPT), extra})
            return shlex.join(["uv", "tool", "install", "--force", *self._ours(extras)])
        return shlex.join([*self._pip(), *self._ours([extra])])

    def to_add_packages(self, *packages: str) -> str:
        """The command that adds packages of others."""
        if self.is_debian:  # whose environment is not the owner's to change
            return shlex.join(["pipx", "install", NAME, "--preinstall", *packages])
        if self._is_pipx:
            return shlex.join(["pipx", "inject", self.prefix.name, *packages])
        if self._is_uv_tool:
            added = [word for package in packages for word in ("--with", package)]
            extras = sorted(_uv_extras(self.prefix / _UV_RECEIPT))
            return shlex.join(["uv", "tool", "install", "--force", *added, *self._ours(extras)])
        return shlex.join([*self._pip(), *packages])

    def _pip(self) -> list[str]:
        """The words that install into this environment, and no other."""
        if self.installer == "uv":
            return ["uv", "pip", "install", *([] if self.is_active else ["--python", str(self.prefix)])]
        if self.is_venv and not self.has_pip:
            return ["pip", "--python", str(self.prefix), "install"]
        if self.is_venv and not self.is_active:
            return [str(self.prefix / "bin" / "python"), "-m", "pip", "install"]
        return ["pip", "install"]

    def _ours(self, extras: Sequence[str]) -> tuple[str, ...]:
        """The requirement of ours, with extras, from where it was installed."""
        wanted = f"[{','.join(extras)}]" if extras else ""
        match self.origin:
            case {"vcs_info": {"vcs": str(kind)} as info, "url": str(url)}:
                commit = info.get("requested_revision") or info.get("commit_id") or ""
                return (f"{NAME}{wanted} @ {kind}+{url}" + (f"@{commit}" if commit else ""),)
            case {"dir_info": dict(info), "url": str(url)} if (folder := _local(url)) is not None:
                return (*(["--editable"] if info.get("editable") else []), f"{folder}{wanted}")
            case {"archive_info": _, "url": str(url)}:
                return (f"{NAME}{wanted} @ {url}",)
            case None if self.checkout is not None:
                return (f"{self.checkout}{wanted}",)
        return (f"{NAME}{wanted}",)


def to_add_extra(extra: str) -> str:
    """The command that adds an extra ("train", "data", "broker", "lab") to this installation."""
    return installation().to_add_extra(extra)


def to_add_packages(*packages: str) -> str:
    """The command that adds packages of others to this installation."""
    return installation().to_add_packages(*packages)


def version() -> str:
    """The version of this distribution; "0" where it was not installed."""
    import importlib.metadata  # noqa: PLC0415 - see the module's docstring

    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def installation() -> Installation:
    """What this process runs from."""
    import importlib.metadata  # noqa: PLC0415 - see the module's docstring
    import importlib.util  # noqa: PLC0415

    origin: dict[str, Any] | None
    try:
        distribution = importlib.metadata.distribution(NAME)
        origin = _read_origin(distribution.read_text("direct_url.json"))
        installer = (distribution.read_text("INSTALLER") or "").strip()
    except importlib.metadata.PackageNotFoundError:
        origin, installer = None, ""
    active = os.environ.get("VIRTUAL_ENV", "")
    return Installation(
        origin=origin,
        installer=installer,
        prefix=Path(sys.prefix),
        is_venv=sys.prefix != sys.base_prefix,
        is_active=bool(active) and Path(active).resolve() == Path(sys.prefix).resolve(),
        has_pip=importlib.util.find_spec("pip") is not None,
        checkout=_CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else None,
    )


def _read_origin(text: str | None) -> dict[str, Any]:
    try:
        origin = json.loads(text or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _local(url: str) -> Path | None:
    """The folder of a file URL, if it is still there."""
    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    return folder if parts.scheme == "file" and folder.is_dir() else None


def _uv_extras(receipt: Path) -> set[str]:
    """The extras of ours that a tool of uv's was made with."""
    import tomllib  # noqa: PLC0415 - see the module's docstring

    try:
        requirements = tomllib.loads(receipt.read_text(encoding="utf-8"))["tool"]["requirements"]
        return {extra for each in requirements if each["name"] == NAME for extra in each.get("extras", ())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
