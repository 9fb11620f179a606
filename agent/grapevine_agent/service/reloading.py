"""Another configuration while the agent runs: SIGHUP, `grapevine agent reload`, and `grapevine trust`.

read ─broken▶ ConfigError, and the old one holds
  └▶ what can change now is applied, in one turn of the core; what cannot is named (`config.changes`)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from grapevine_agent.config.agent_toml import Config, check_files, load_config
from grapevine_agent.config.changes import Changes, changes
from grapevine_agent.config.firmware import device_profile, with_profile
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.data.source import DataSource
from grapevine_agent.service import clock
from grapevine_agent.training.trainer import TrainerLimits

if TYPE_CHECKING:
    from grapevine_agent.service.shell import AgentService

NOTHING: Final = "nothing has changed"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a configuration comes to on this device."""

    settings: CoreSettings
    sources: tuple[DataSource, ...]
    limits: TrainerLimits


MakeAgain: TypeAlias = Callable[[Config], Made]


async def reload(service: AgentService, make: MakeAgain) -> Changes:
    """Read the configuration again and apply what can be applied; `make` says what it comes to.

    Raises `ConfigError`, and whatever else `make` raises, with nothing changed.
    """
    wanted = load_config(service.config.path, os.environ)
    wanted = with_profile(wanted, device_profile(wanted))
    found = changes(service.config, wanted, trains=service.trainers is not None)
    check_files(wanted, running_with=os.environ)
    made = make(found.applied)
    service.config = found.applied
    if made.settings.role != "observer":  # a command has a word of its own on what is logged
        logging.getLogger().setLevel(found.applied.agent.log_level.upper())
    if service.trainers is not None:
        service.trainers.change(made.sources, made.limits)
    await service.turns.take(
        lambda: service.core.set_settings(made.settings, clock.now()),
        num_bytes=service.core.tasks.largest_model_bytes,  # a task may end by it
    )
    return found


def told(found: Changes) -> str:
    """What came of it, in one line."""
    parts = [f"in force now: {', '.join(found.changed)}"] if found.changed else []
    parts += [f"needs a restart: {', '.join(found.restart)}"] if found.restart else []
    return "; ".join(parts) or NOTHING
