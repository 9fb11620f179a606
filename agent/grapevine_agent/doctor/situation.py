"""What is known before anything is looked at: the owner's words, as far as they can be read, and what the agent says.

A configuration with a mistake in one table is read without that table, so that all the others can be looked at; what
stands in it, or in the variables that override it, is not known then, and never guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from grapevine_agent.config.agent_toml import LISTS, TABLES, Config, check_files, find_config, load_config
from grapevine_agent.config.firmware import FirmwareProfile, device_profile
from grapevine_agent.config.mistakes import MistakesError
from grapevine_agent.config.trust_file import TRUST_FILE
from grapevine_agent.control.client import agent_of, call
from grapevine_agent.control.protocol import SOCKET_FILE, NoAnswerError, NoServiceError
from grapevine_agent.doctor.unit import Unit, unit_of
from grapevine_agent.identity import PEER_FILE
from grapevine_agent.journal import quietly
from grapevine_agent.units import USER
from grapevine_proto.errors import ConfigError, GrapevineError

ASK_WITHIN_S: Final = 5.0
MOST_ROUNDS: Final = 10  # what is read without a table may be wrong without it

Agent: TypeAlias = Literal["runs", "none", "of another user", "does not answer", "not known"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """See the module's docstring."""

    path: Path | None  # of the configuration
    config: Config | None = None  # None: no table of it can be read
    mistakes: tuple[str, ...] = ()  # in it
    without: tuple[str, ...] = ()  # the tables that cannot be read
    warnings: tuple[str, ...] = ()  # that reading it gave
    profile: FirmwareProfile | None = None
    profile_error: str = ""
    peer: str = ""  # this device's, as far as this user may know it
    agent: Agent = "not known"
    agent_says: str = ""  # why there is no status
    status: Mapping[str, Any] = field(default_factory=dict)
    socket: Path | None = None  # where the agent answered
    unit: Unit | None = None  # the service that runs with this configuration

    @property
    def lacks_files(self) -> bool:
        """Whether the one mistake is that a file which [mqtt] names is not there."""
        return self.config is not None and bool(self.mistakes) and not self.without

    def knows(self, *tables: str) -> bool:
        """Whether these tables could be read."""
        return self.config is not None and not set(tables) & set(self.without)


def find_out(path: Path | None, environ: Mapping[str, str]) -> Situation:
    """What is known now. Raises nothing for a configuration that is wrong."""
    in_force = find_config(path, environ)
    with quietly() as warned:
        config, mistakes, without = _read(path, environ)
        profile, profile_error = _profile(config, without)
    agent, says, status, socket = _ask(config, without)
    return Situation(
        path=in_force,
        config=config,
        mistakes=mistakes,
        without=without,
        warnings=tuple(dict.fromkeys(warned)),
        profile=profile,
        profile_error=profile_error,
        peer=str(status.get("peer") or _peer(config, without)),
        agent=agent,
        agent_says=says,
        status=status,
        socket=socket,
        unit=unit_of(in_force),
    )


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, tuple[str, ...], tuple[str, ...]]:
    """The configuration without as few tables as can be, what is wrong, and those tables."""
    try:
        config = load_config(path, environ)
    except GrapevineError:
        return _read_in_part(path, environ)
    try:
        check_files(config, by_owner=False)
    except ConfigError as missing:
        return config, (str(missing),), ()
    return config, (), ()


def _read_in_part(
    path: Path | None, environ: Mapping[str, str]
) -> tuple[Config | None, tuple[str, ...], tuple[str, ...]]:
    """The same of one that is wrong somewhere: each round leaves out the tables that were wrong in the last."""
    mistakes: tuple[str, ...] = ()
    without: set[str] = set()
    for _ in range(MOST_ROUNDS):
        try:
            config = load_config(path, environ, without=without, with_trust_file=False)
        except MistakesError as error:
            mistakes = mistakes or tuple(map(str, error.mistakes))  # later ones may come of what is left out
            named = {re.split(r"[.\[]", each.key)[0] for each in error.mistakes} - {""}
            if named <= without:
                break  # a mistake of no table
            without |= named
        except GrapevineError as error:
            mistakes = mistakes or (str(error),)
            break
        else:
            return _with_trust_file(config, mistakes, without, path, environ)
    return None, mistakes, (*TABLES, *LISTS)


def _with_trust_file(
    config: Config, mistakes: tuple[str, ...], without: set[str], path: Path | None, environ: Mapping[str, str]
) -> tuple[Config, tuple[str, ...], tuple[str, ...]]:
    """What the trust file adds; it may be damaged, or in a folder that is another user's, or nobody knows where."""
    if "agent" not in without:
        try:
            config = load_config(path, environ, without=without)
        except GrapevineError as error:
            is_closed = _is_closed(config.agent.state_dir / TRUST_FILE)
            mistakes = mistakes if is_closed else (*mistakes, str(error))
            without = {*without, "review", "trust"}
    return config, mistakes, tuple(sorted(without))


def _profile(config: Config | None, without: tuple[str, ...]) -> tuple[FirmwareProfile | None, str]:
    if config is None or {"agent", "limits"} & set(without):
        return None, ""
    try:
        return device_profile(config), ""
    except ConfigError as error:
        return None, str(error)


def _ask(config: Config | None, without: tuple[str, ...]) -> tuple[Agent, str, dict[str, Any], Path | None]:
    if config is None or "agent" in without:
        return "not known", "where its socket lies is not known", {}, None
    path = config.agent.state_dir / SOCKET_FILE
    try:
        return "runs", "", call(path, "status", {}, timeout_s=ASK_WITHIN_S), path
    except NoServiceError as error:
        elsewhere = None if _is_closed(path) or config.path is None else agent_of(config.path, USER)
        if elsewhere is not None:
            with suppress(GrapevineError):
                return "runs", "", call(elsewhere, "status", {}, timeout_s=ASK_WITHIN_S), elsewhere
        return ("of another user" if _is_closed(path) else "none"), str(error), {}, None
    except NoAnswerError as error:
        return "does not answer", str(error), {}, path
    except GrapevineError as error:
        return "does not answer", f"it answers: {error}", {}, path


def _is_closed(path: Path) -> bool:
    """Whether this user may not see what is there."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.W_OK)


def _peer(config: Config | None, without: tuple[str, ...]) -> str:
    if config is None or "agent" in without:
        return ""
    with suppress(OSError, ValueError):
        return (config.agent.state_dir / PEER_FILE).read_text(encoding="ascii").strip()[:64]
    return ""
