"""The owner's words and who this device is: configuration, the running agent, identity, profile."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from grapevine_agent.config.agent_toml import SYSTEM_STATE_DIR
from grapevine_agent.config.board import propose, read_board
from grapevine_agent.config.credentials import is_open_to_others
from grapevine_agent.config.firmware import DEFAULT_PROFILE, FirmwareProfile
from grapevine_agent.config.mistakes import ENVIRONMENT
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.doctor.unit import AGENT_UNIT, is_user, unreadable
from grapevine_agent.doctor.unit import findings as unit_findings
from grapevine_agent.identity import IDENTITY_FILE, IdentityError, NoIdentityError, load_identity
from grapevine_agent.spoken import span
from grapevine_agent.units import CREDENTIALS
from grapevine_proto.errors import GrapevineError

LONG_STOP_MS: Final = 1_000.0
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def configuration(situation: Situation) -> list[Finding]:
    """Whether the file can be read, and what it was warned of."""
    path = str(situation.path) if situation.path else ""
    facts: dict[str, Any] = {"path": path, "not_read": list(situation.without)}
    if situation.mistakes:
        unknown = ""
        if situation.without and situation.config is not None:
            unknown = f"; until then nothing is known of {', '.join(f'[{each}]' for each in situation.without)}"
        found = []
        for each in situation.mistakes:
            where = "the environment" if not path or each.startswith(f"{ENVIRONMENT}: ") else path
            remedy = f"mend {where}, then run this again{unknown}"
            found.append(Finding(check="configuration", level="fail", says=each, remedy=remedy, facts=facts))
        return found
    if not path:
        says = "there is no configuration file: the defaults hold, with a broker on this machine"
        remedy = "write one: grapevine init; or name it with --config"
        return [Finding(check="configuration", level="warn", says=says, remedy=remedy, facts=facts)]
    found = [Finding(check="configuration", level="ok", says=f"{path} is read", facts=facts)]
    found += [
        Finding(check="configuration", level="warn", says=each, remedy=f"see {path}") for each in situation.warnings
    ]
    return [*found, *_password(situation), *_closed_to_the_service(situation)]


def _closed_to_the_service(situation: Situation) -> list[Finding]:
    """Files of [mqtt] that the service may not read. Looked at as its user, as root's doctor does."""
    config, unit = situation.config, situation.unit
    if config is None or config.path is None or unit is None or not is_user(unit.user):
        return []
    mqtt, folder = config.mqtt, config.path.parent.absolute() / CREDENTIALS
    files = {
        "password_file": mqtt.password_file,
        "ca_file": mqtt.ca_file,
        "cert_file": mqtt.cert_file,
        "key_file": mqtt.key_file,
    }
    return [
        unreadable(path, key, unit.name)
        for key, path in files.items()
        if path is not None and path.parent != folder and os.path.lexists(path) and not os.access(path, os.R_OK)
    ]


def _password(situation: Situation) -> list[Finding]:
    """Whether others may read the password, or this user may not."""
    path = situation.config.mqtt.password_file if situation.config is not None else None
    if path is None:
        return []
    try:
        is_open = is_open_to_others(path.stat(), path, os.environ)
    except OSError:
        return []
    if not is_open:
        return []
    says = f"{path} can be read by other users of this machine"
    return [Finding(check="configuration", level="warn", says=says, remedy=f"chmod 600 {path}")]


def agent(situation: Situation) -> list[Finding]:
    """Whether an agent runs here, and what it complains of."""
    where = f" --config {situation.path}" if situation.path else ""
    match situation.agent:
        case "not known":
            return [Finding(check="agent", level="skip", says=situation.agent_says)]
        case "none":
            state_dir = situation.config.agent.state_dir if situation.config is not None else Path()
            if failed := unit_findings(situation.unit, state_dir):
                return failed
            remedy = f"start it: grapevine agent run{where}"
            if situation.unit is not None:
                remedy = f"start it: sudo systemctl start {situation.unit.name}"
            return [Finding(check="agent", level="warn", says="no agent runs here", remedy=remedy)]
        case "of another user":
            says = "it belongs to another user, and does not talk to this one"
            return [Finding(check="agent", level="skip", says=says, remedy="see state below")]
        case "does not answer":
            unit = situation.unit.name if situation.unit is not None else AGENT_UNIT
            remedy = f"see its log (journalctl -u {unit}), and whether this device is overloaded"
            return [Finding(check="agent", level="fail", says=situation.agent_says, remedy=remedy)]
    status = situation.status
    facts = {
        key: status.get(key)
        for key in ("peer", "role", "uptime_s", "memory_mb", "connected", "longest_stop_ms", "num_tasks")
    }
    says = (
        f"runs as {status['role']} {status['peer']} for {span(status['uptime_s'])}, with {status['memory_mb']:.0f} MB"
    )
    found = [Finding(check="agent", level="ok", says=says, facts=facts), *_elsewhere(situation)]
    sleep = status.get("sleep") or {}
    if not status["connected"] and not sleep.get("asleep"):
        remedy = "see the brokers below; it goes on trying"
        found.append(Finding(check="agent", level="warn", says="it is not connected", remedy=remedy))
    elif status["trouble"]:
        found.append(Finding(check="agent", level="warn", says=status["trouble"], remedy="see its log"))
    if unsaved := status.get("unsaved"):
        why = "; ".join(sorted({f"{each['kind']}: {each['reason']}" for each in unsaved}))
        remedy = "see disk and state below; a power cut loses what is not saved"
        found.append(Finding(check="agent", level="fail", says=f"its disk does not take {why}", remedy=remedy))
    if (stop_ms := status.get("longest_stop_ms") or 0.0) > LONG_STOP_MS:
        says = f"it stood still for {stop_ms / 1e3:.1f} s in the last ten minutes"
        remedy = "this device is busy: see what else runs on it, or lower limits.threads"
        found.append(Finding(check="agent", level="warn", says=says, remedy=remedy))
    for each in status.get("trainers") or ():
        if each.get("failures") and each.get("trouble"):
            says = f"the trainer of {each['name']} failed {each['failures']} times, the last: {each['trouble']}"
            remedy = "see the trainer below, and grapevine status"
            found.append(Finding(check="agent", level="warn", says=says, remedy=remedy))
    return found


def _elsewhere(situation: Situation) -> list[Finding]:
    """An agent whose state is not where the configuration says by now: its next start would be another device's."""
    if situation.config is None or situation.socket is None:
        return []
    wanted, folder = situation.config.agent.state_dir, situation.socket.parent
    if wanted == folder:
        return []
    says = f"its state is in {folder}, and state_dir is {wanted} by now"
    remedy = f"before its next start, stop it and copy the folder, the key with it: sudo cp -a {folder}/. {wanted}/"
    found = [Finding(check="agent", level="warn", says=says, remedy=remedy)]
    return [*found, *unit_findings(situation.unit, wanted)]


def identity(situation: Situation) -> list[Finding]:
    """Whether the key is there, ours alone, and the one that the state folder belongs to. Nothing is changed."""
    if situation.config is None or not situation.knows("agent"):
        return [Finding(check="identity", level="skip", says="where it lies is not known")]
    path = situation.config.agent.state_dir / IDENTITY_FILE
    facts: dict[str, Any] = {"path": str(path), "peer": situation.peer}
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = 0
    except PermissionError:
        says = f"{path} is another user's"
        return [Finding(check="identity", level="skip", says=says, remedy="see state below", facts=facts)]
    if mode & _OTHERS:
        says = f"other users of this machine can read the key in {path} (mode {stat.S_IMODE(mode):o})"
        remedy = f"chmod 600 {path}; if somebody may have copied it, be a new peer: grapevine init --new-identity"
        return [Finding(check="identity", level="fail", says=says, remedy=remedy, facts=facts)]
    if mode and not os.access(path, os.R_OK):
        says = f"this user may not read {path}, which is as it should be if the agent runs as another"
        return [Finding(check="identity", level="skip", says=says, remedy="run this as that user", facts=facts)]
    try:
        peer = load_identity(situation.config.agent.state_dir).peer_id
    except NoIdentityError:
        remedy = "the first start makes one; or grapevine init"
        says = "this device has no key yet"
        if other := _key_elsewhere(situation):
            says = f"there is no key in {path.parent}, and one in {other}: with another one this device is another peer"
            remedy = f"if it is this device's, copy the folder: sudo cp -a {other}/. {path.parent}/"
            return [Finding(check="identity", level="fail", says=says, remedy=remedy, facts=facts)]
        return [Finding(check="identity", level="warn", says=says, remedy=remedy, facts=facts)]
    except IdentityError as error:
        return [Finding(check="identity", level="fail", says=str(error), facts=facts)]
    except GrapevineError as error:
        return [Finding(check="identity", level="fail", says=str(error), facts=facts)]
    return [Finding(check="identity", level="ok", says=f"peer {peer}, {path}", facts=facts | {"peer": peer})]


def _key_elsewhere(situation: Situation) -> Path | None:
    """A folder in which the key of this device may lie: that of the agent that runs, or the package's."""
    assert situation.config is not None
    candidates = [situation.socket.parent] if situation.socket is not None else []
    is_agents = situation.unit is not None and situation.unit.name == AGENT_UNIT
    candidates += [SYSTEM_STATE_DIR] if is_agents else []
    for each in candidates:
        with suppress(OSError):
            if each != situation.config.agent.state_dir and os.path.lexists(each / IDENTITY_FILE):
                return each
    return None


def profile(situation: Situation, *, guessed: str | None = None) -> list[Finding]:
    """Whether the profile is there, and of this board."""
    if situation.profile_error:
        return [Finding(check="profile", level="fail", says=situation.profile_error)]
    if situation.config is None or situation.profile is None:
        return [Finding(check="profile", level="skip", says="it is not known")]
    found, fitting = situation.profile, guessed if guessed is not None else propose(read_board()).profile
    facts = {
        "profile": found.name,
        "fitting": fitting,
        "memory_mb": found.memory_mb,
        "threads": found.threads,
        "cores": found.cores,
        "can_train": found.can_train,
        "encoding": found.encoding,
    }
    says = f"{found.name}: {_lends(found)}"
    if fitting not in (found.name, DEFAULT_PROFILE) and not _is_path(situation.config.agent.profile):
        remedy = f'write profile = "{fitting}" into [agent]'
        return [
            Finding(
                check="profile",
                level="warn",
                says=f"{says}; by its name this board is {fitting}",
                remedy=remedy,
                facts=facts,
            )
        ]
    return [Finding(check="profile", level="ok", says=says, facts=facts)]


def _is_path(profile: str) -> bool:
    return profile.endswith(".toml") or os.sep in profile


def _lends(found: FirmwareProfile) -> str:
    if not found.can_train:
        return "relays, merges and serves, and trains nothing"
    return f"trains with up to {found.memory_mb:,} MB and {found.threads} thread{'s'[: found.threads != 1]}"


def owner_of(path: Path) -> str:
    """The user that a file belongs to, by name if there is one. Raises OSError."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
