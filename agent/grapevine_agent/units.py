"""systemd units for this installation: the same text for a Debian package, a pipx environment and a checkout.

The templates lie in `agent/packaging/systemd/` of a checkout and in `grapevine_agent/systemd/` of an installed package:
one for agents and servers (`grapevine-peer.service`), one for brokers. What they leave open is filled in here:

    @KIND@        agent or server                @WHAT@        what that does
    @COMMAND@     the `grapevine` to run         @IDENTITY@    whom it runs as, where its state and its secrets lie
    @CONFIG@      its configuration              @HARDENING@   what it may not do, which is a template, too:
    @FOLDER@      the folder of that             @MEMORY@      whether it may make code as it goes
                                                 @TARGET@      what starts it

A unit of the system runs as a user of its own, with a state folder that systemd makes and gives to it. A unit of a
user runs as that user, with less taken away: most of the walls are not a user's to build.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from grapevine_proto.errors import ConfigError

Kind: TypeAlias = Literal["agent", "server", "broker"]
KINDS: Final[tuple[Kind, ...]] = ("agent", "server", "broker")
USER: Final = "grapevine"
SYSTEM_FOLDER: Final = Path("/etc/grapevine")
SYSTEM_UNITS: Final = Path("/etc/systemd/system")
UNITS: Final = (SYSTEM_UNITS, Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))  # as systemd prefers them
SYSTEMD: Final = Path("/run/systemd/system")  # there while systemd runs the machine
CREDENTIALS: Final = "credentials"  # the folder beside the configuration; and what systemd's copies begin with
_CHECKOUT: Final = Path(__file__).resolve().parents[1] / "packaging" / "systemd"
_WHAT: Final[dict[Kind, str]] = {
    "agent": "learns together with other devices",
    "server": "aggregates tasks that name it",
}
_UNSAFE: Final = frozenset(" \t\n\"'\\%$;")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit: what is to run, and for whom.

    Args:
        kind: What it runs.
        command: The `grapevine` of this installation.
        config: The configuration; of a broker only its folder counts.
        for_user: A unit of a user's own manager, else of the system's.
        writes: Where else than in its state folder below /var/lib it may write; None: nowhere.
    """

    kind: Kind
    command: Path
    config: Path
    for_user: bool = False
    writes: Path | None = None

    @property
    def name(self) -> str:
        """What systemctl calls it."""
        return f"grapevine-{self.kind}.service"

    @property
    def state(self) -> str:
        """The name of its state folder, below /var/lib."""
        return "grapevine" if self.kind == "agent" else f"grapevine-{self.kind}"

    def text(self) -> str:
        """The unit file. Raises `ConfigError` for a path that systemd would read as something else."""
        for path in filter(None, (self.command, self.config, self.writes)):
            if not path.is_absolute() or _UNSAFE & set(str(path)):
                raise ConfigError(
                    f"{path}: in a unit, a path is absolute and without blanks, quotes, %, $ and ;: choose another one"
                )
        values = {
            "KIND": self.kind,
            "WHAT": _WHAT.get(self.kind, ""),
            "COMMAND": str(self.command),
            "CONFIG": str(self.config),
            "FOLDER": str(self.config.parent),
            "IDENTITY": self._identity(),
            "HARDENING": _template("hardening-user.conf" if self.for_user else "hardening.conf").strip(),
            "MEMORY": self._memory(),
            "TARGET": "default.target" if self.for_user else "multi-user.target",
        }
        text = _template(f"grapevine-{'peer' if self.kind in _WHAT else self.kind}.service")
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        lines = text.splitlines()
        if self.for_user:  # whose manager knows none of the system's units
            lines = [line for line in lines if not line.startswith(("After=", "# A broker on this"))]
        return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip("\n") + "\n"

    def _memory(self) -> str:
        if self.kind != "agent":
            return "MemoryDenyWriteExecute=yes"
        return (
            "# Not MemoryDenyWriteExecute=yes: PyTorch makes the code of its convolutions as it goes. With it\n"
            "# they work as well, without oneDNN, and take up to four times as long."
        )

    def _identity(self) -> str:
        if self.for_user:
            return ""
        lines = [f"User={USER}", f"Group={USER}", f"StateDirectory={self.state}", "StateDirectoryMode=0700"]
        if self.kind != "broker":
            lines += [
                "# Passwords and keys that only root can read: systemd hands copies to the service.",
                f"LoadCredential={CREDENTIALS}:{self.config.parent / CREDENTIALS}",
            ]
        if self.writes is not None:
            lines.append(f"ReadWritePaths={self.writes}")
        return "\n".join(lines)


def unit_name_of(*, config: Path | None = None, state_dir: Path | None = None) -> str:
    """The unit of the system that runs this configuration, or works on this state folder; "" if none, or no systemd.

    A package or `grapevine service install` has brought it. It is read, as its folders may be of the owner's choice.
    """
    if not SYSTEMD.is_dir():
        return ""
    for kind in ("agent", "server"):
        name = f"grapevine-{kind}"
        text = next(
            (_read(folder / f"{name}.service") for folder in UNITS if (folder / f"{name}.service").exists()), ""
        )
        if text:  # and what `systemctl edit` has added
            text += "".join(_read(each) for folder in UNITS for each in sorted(folder.glob(f"{name}.service.d/*.conf")))
        settings = [line.partition("=")[::2] for line in text.splitlines()]
        command = next((value.split() for key, value in settings if key == "ExecStart"), [])
        states = [Path("/var/lib") / value for key, value in settings if key == "StateDirectory"]
        states += [Path(value) for key, value in settings if key == "ReadWritePaths"]
        if (config is not None and str(config.absolute()) in command) or state_dir in states:
            return name
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _template(name: str) -> str:
    folder = _CHECKOUT if _CHECKOUT.is_dir() else Path(__file__).resolve().parent / "systemd"
    return (folder / name).read_text(encoding="utf-8")
