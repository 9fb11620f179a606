"""What another configuration changes while the agent runs, and what it changes only at the next start.

    agent.toml ─load▶ wanted ─┬─ what differs from what holds, key by key
      holds: the last one     ├─▶ `applied`: wanted, but for the keys that need a restart, which stay as they are
                              └─▶ `restart`: those keys, named for as long as they are not what holds

A key needs a restart where what it decided is built once and held by many: connections and their topics, the folder,
where it shows itself to other programs, what peers were told of this device, and how a task that has begun is paced and
written. All else, the trust file included, is asked for whenever it matters, and so can be another one from now on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from grapevine_agent.config.agent_toml import AgentConfig, Config, Limits, MqttConfig
from grapevine_agent.config.governor import GovernorConfig
from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_agent.config.metrics import MetricsConfig
from grapevine_agent.data.source import DataSource

AT_START: Final = {
    "agent": ("state_dir", "profile", "site", "location", "server_group"),
    "mqtt": tuple(each.name for each in fields(MqttConfig)),
    "limits": ("chunk_window", "state_mb", "round_interval_s", "upload_mb_per_s", "encoding"),
    "governor": ("power_sensor",),
    "homeassistant": tuple(each.name for each in fields(HomeAssistantConfig)),
    "metrics": tuple(each.name for each in fields(MetricsConfig)),
}
_WRITTEN: Final = {
    ("mqtt", "environment_password"): "password",
    ("metrics", "host"): "listen",
    ("metrics", "port"): "listen",
}
TRAINERS: Final = "[[trainer]]"
ENGINE: Final = "[engine]"
LIVE_TOPICS: Final = "[[data]] of live topics"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """See the module's docstring. Keys are named as their owner writes them: `limits.memory_mb`."""

    applied: Config
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def changes(holds: Config, wanted: Config, *, trains: bool = True) -> Changes:
    """What comes of `wanted` where `holds` is in force; `trains`: there are trainers, whom limits can be set."""
    at_start = dict(AT_START)
    if not trains:  # which are made at the start, if they are made
        at_start["limits"] = (*at_start["limits"], "can_train")
    changed: list[str] = []
    restart: list[str] = []

    def table(name: str) -> Any:
        before, after = getattr(holds, name), getattr(wanted, name)
        kept: dict[str, Any] = {}
        for each in fields(before):
            value = getattr(before, each.name)
            if value == getattr(after, each.name):
                continue
            if each.name in at_start.get(name, ()):
                kept[each.name] = value
                restart.append(f"{name}.{_written(name, each.name)}")
            elif (name, each.name) != ("trust", "peers"):  # the trust file, which is in the lists as well
                changed.append(f"{name}.{each.name}")
        return replace(after, **kept)

    agent: AgentConfig = table("agent")
    mqtt: MqttConfig = table("mqtt")
    limits: Limits = table("limits")
    governor: GovernorConfig = table("governor")
    homeassistant: HomeAssistantConfig = table("homeassistant")
    metrics: MetricsConfig = table("metrics")
    review, trust = table("review"), table("trust")
    if holds.consent != wanted.consent:
        changed.append("[[consent]]")
    if holds.trainers != wanted.trainers:
        restart.append(TRAINERS)
    if holds.engine != wanted.engine:
        restart.append(ENGINE)
    if _files(holds) != _files(wanted):
        changed.append("[[data]]")
    if _live(holds) != _live(wanted):
        restart.append(LIVE_TOPICS)
    applied = replace(
        wanted,
        agent=agent,
        mqtt=mqtt,
        limits=limits,
        governor=governor,
        homeassistant=homeassistant,
        metrics=metrics,
        review=review,
        trust=trust,
        data=(*_files(wanted), *_live(holds)),
        trainers=holds.trainers,
        engine=holds.engine,
    )
    return Changes(applied=applied, changed=tuple(changed), restart=tuple(dict.fromkeys(restart)))


def _files(config: Config) -> tuple[DataSource, ...]:
    return tuple(each for each in config.data if each.recording is None)


def _live(config: Config) -> tuple[DataSource, ...]:
    return tuple(each for each in config.data if each.recording is not None)


def _written(table: str, field: str) -> str:
    """How the owner writes it: a password has no key of its own, an address and its port have one."""
    return _WRITTEN.get((table, field), field)
