"""What is known before anything is looked at: the owner's words, as far as they can be read, and what the agent says.

A configuration with a mistake in one table is read without that table, so that all the others can be looked at; what
stands in it is not known then, and never guessed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from grapevine_agent.config.agent_toml import Config, check_files, find_config, load_config
from grapevine_agent.config.firmware import FirmwareProfile, device_profile
from grapevine_agent.config.toml_reader import read_toml
from grapevine_agent.config.trust_file import TRUST_FILE
from grapevine_agent.control import NoAnswerError, NoServiceError, call
from grapevine_agent.identity import PEER_FILE
from grapevine_agent.service.assembly import state_socket
from grapevine_proto.errors import ConfigError, GrapevineError

ASK_WITHIN_S: Final = 5.0
TABLES: Final = ("data", "trainer", "consent", "limits", "trust", "review", "mqtt", "agent")

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

    def knows(self, *tables: str) -> bool:
        """Whether these tables could be read."""
        return self.config is not None and not set(tables) & set(self.without)


def find_out(path: Path | None, environ: Mapping[str, str]) -> Situation:
    """What is known now. Raises nothing for a configuration that is wrong."""
    with quietly() as warned:
        config, mistakes, without = _read(path, environ)
        profile, profile_error = _profile(config, without)
    agent, says, status = _ask(config, without)
    return Situation(
        path=find_config(path, environ),
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
    )


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, tuple[str, ...], tuple[str, ...]]:
    """The configuration without as few tables as can be, what is wrong, and those tables."""
    try:
        config = load_config(path, environ)
    except GrapevineError as first:
        errors = (str(first),)
    else:
        try:
            check_files(config, by_owner=False)
        except ConfigError as missing:
            return config, (str(missing),), ()
        return config, (), ()
    with suppress(GrapevineError):  # it may be the trust file alone: damaged, or in a folder that is another user's
        config = load_config(path, environ, with_trust_file=False)
        closed = _is_closed(config.agent.state_dir / TRUST_FILE)
        return config, () if closed else errors, ("review", "trust")
    strays = _strays(find_config(path, environ))
    for num_tables in range(len(TABLES) + 1):
        for some in combinations(TABLES, num_tables):
            without = (*some, *strays)
            with suppress(GrapevineError):
                config = load_config(path, environ, without=without, with_trust_file=False)
                return config, _mistakes(path, environ, without), without
    return None, errors, TABLES


def _mistakes(path: Path | None, environ: Mapping[str, str], without: tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong in each of these tables."""
    found: list[str] = []
    for table in without:
        others = [each for each in without if each != table]
        try:
            load_config(path, environ, without=others, with_trust_file=False)
        except GrapevineError as error:
            found.append(str(error))
    return tuple(dict.fromkeys(found))


def _strays(found: Path | None) -> tuple[str, ...]:
    """What stands in the file beside the tables that there are."""
    with suppress(GrapevineError):
        return tuple(sorted(set(read_toml(found)) - set(TABLES))) if found else ()
    return ()


def _profile(config: Config | None, without: tuple[str, ...]) -> tuple[FirmwareProfile | None, str]:
    if config is None or {"agent", "limits"} & set(without):
        return None, ""
    try:
        return device_profile(config), ""
    except ConfigError as error:
        return None, str(error)


def _ask(config: Config | None, without: tuple[str, ...]) -> tuple[Agent, str, dict[str, Any]]:
    if config is None or "agent" in without:
        return "not known", "where its socket lies is not known", {}
    path = state_socket(config)
    try:
        return "runs", "", call(path, "status", {}, timeout_s=ASK_WITHIN_S)
    except NoServiceError as error:
        return ("of another user" if _is_closed(path) else "none"), str(error), {}
    except NoAnswerError as error:
        return "does not answer", str(error), {}
    except GrapevineError as error:
        return "does not answer", f"it answers: {error}", {}


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


@contextmanager
def quietly() -> Iterator[list[str]]:
    """What our modules warn of meanwhile goes here, and not to the terminal."""
    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, listening = logging.getLogger("grapevine_agent"), Listening(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(listening)
    try:
        yield told
    finally:
        logger.removeHandler(listening)
        logger.propagate = propagates
