"""`[homeassistant]`: whether this device shows itself in Home Assistant, and on which topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grapevine_agent.config.toml_reader import Table

_LEVELS: Final = r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,3}"  # Home Assistant's own ids are made of these characters
LEAST_EVERY_S: Final = 5.0
MOST_EVERY_S: Final = 3_600.0


@dataclass(frozen=True, kw_only=True)
class HomeAssistantConfig:
    """`[homeassistant]`; off unless the owner asks for it."""

    enabled: bool = False
    prefix: str = "homeassistant"  # where Home Assistant looks for devices
    status: str = "homeassistant/status"  # where it says that it has started
    root: str = "grapevine-homeassistant"  # above our states and the commands to us
    every_s: float = 60.0  # numbers that change are said so often at most
    commands: bool = True  # a switch and buttons, beside what is only shown


def read_homeassistant(table: Table, mqtt_root: str) -> HomeAssistantConfig:
    """The table, held against the topic root of the agents. Raises `ConfigError`."""
    default = HomeAssistantConfig()
    topics = {
        key: table.text(key, getattr(default, key), pattern=_LEVELS, hint=f'"{getattr(default, key)}"', max_length=100)
        for key in ("prefix", "status", "root")
    }
    for key, topic in topics.items():
        if _overlap(topic, mqtt_root):
            table.wrong(key, f"lies in the topics of mqtt.root = {mqtt_root!r}; write another one")
    if _overlap(topics["root"], topics["prefix"]):
        table.wrong("root", f"lies in the topics of prefix = {topics['prefix']!r}; write another one")
    return HomeAssistantConfig(
        enabled=table.boolean("enabled", default.enabled),
        prefix=topics["prefix"],
        status=topics["status"],
        root=topics["root"],
        every_s=table.number("every_s", default.every_s, low=LEAST_EVERY_S, high=MOST_EVERY_S),
        commands=table.boolean("commands", default.commands),
    )


def _overlap(one: str, other: str) -> bool:
    """Whether one topic is the other, or above it."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
