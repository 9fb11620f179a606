"""A device as Home Assistant's MQTT discovery describes it: one message for it and all of its entities.

    <prefix>/device/<peer>/config             what there is: device, origin, and a component for each entity
    <root>/<peer>/availability                online, offline
    <root>/<peer>/state                       figures of the device, as JSON
    <root>/<peer>/task/<key>                  those of one task
    <root>/<peer>/set/pause                   ON, OFF: commands to us
    <root>/<peer>/set/leave/<key>             PRESS

The peer's id stands alone on its level, because a broker's rules can put a user's name only there. It is in every
unique id too, so that entities stay what they are whatever the device is called. `key` is the beginning of a task's id.

A component that is only named with its platform is removed by Home Assistant; one that is left out is not. So what was
there before goes on being named (`gone`). Keys are written in full: an abbreviation may come to mean something else.
Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from grapevine_agent.service.figures import SHORT_ID, Figures, Governed, TaskFigures

Platform: TypeAlias = Literal["sensor", "switch", "button"]

NOTHING: Final = "nothing"
LONGEST_STATE: Final = 255  # characters: Home Assistant takes no longer one
LONGEST_CONFIG: Final = 256_000  # bytes of a description that is read again; ours are shorter
ACTIVITIES: Final = ("learning", "at rest", "serving", "paused", "idle")
ONLINE, OFFLINE, ON, OFF, PRESS = "online", "offline", "ON", "OFF", "PRESS"
OF_TASK: Final[Mapping[str, Platform]] = {
    "round": "sensor",
    "metric": "sensor",
    "baseline": "sensor",
    "peers": "sensor",
    "leave": "button",
}
_OF_TASK: Final = re.compile(rf"task_[0-9a-f]{{{SHORT_ID}}}_({'|'.join(OF_TASK)})")


@dataclass(frozen=True, kw_only=True)
class Topics:
    """See the module's docstring. `prefix` and `root` are the owner's."""

    prefix: str
    root: str
    peer: str

    @property
    def config(self) -> str:
        """Where we describe ourselves."""
        return f"{self.prefix}/device/{self.peer}/config"

    @property
    def availability(self) -> str:
        """Whether we are there."""
        return f"{self.root}/{self.peer}/availability"

    @property
    def state(self) -> str:
        """Of the device."""
        return f"{self.root}/{self.peer}/state"

    def task(self, key: str) -> str:
        """Of a task."""
        return f"{self.root}/{self.peer}/task/{key}"

    @property
    def commands(self) -> str:
        """All commands lie below."""
        return f"{self.root}/{self.peer}/set"

    @property
    def pause(self) -> str:
        """Of the switch."""
        return f"{self.commands}/pause"

    def leave(self, key: str) -> str:
        """Of a task's button."""
        return f"{self.commands}/leave/{key}"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is shown beside the tasks, and how. What was measured once stays an entity."""

    temperature: bool = False
    energy: bool = False
    commands: bool = True
    expire_after_s: int = 0  # a figure that is older is not known any more

    def with_governed(self, governed: Governed) -> Shape:
        """The same, and what the governor has measured meanwhile."""
        return replace(
            self,
            temperature=self.temperature or governed.temperature_c is not None,
            energy=self.energy or governed.energy_j_today is not None,
        )


def components(figures: Figures, topics: Topics, shape: Shape) -> dict[str, dict[str, Any]]:
    """The entities of a device, by a name that stays the same."""
    found = _of_device(topics, shape)
    for task in figures.tasks:
        found |= _of_task(task, topics, shape)
    for name, component in found.items():
        component["unique_id"] = f"{figures.peer}_{name}"
        if component["platform"] == "sensor":
            component["expire_after"] = shape.expire_after_s
    return found


def config(
    figures: Figures, topics: Topics, there: Mapping[str, Any], gone: Mapping[str, Platform], version: str
) -> bytes:
    """The discovery message. `there` are the components, `gone` those that were there before."""
    said = {
        "device": {
            "identifiers": [f"grapevine_{figures.peer}"],
            "name": figures.name,
            "manufacturer": "Grapevine",
            "model": f"{figures.role} ({figures.profile})",
            "sw_version": version,
            "serial_number": figures.peer,
        },
        "origin": {"name": "Grapevine", "sw_version": version},
        "availability_topic": topics.availability,
        "components": {**there, **{name: {"platform": platform} for name, platform in gone.items()}},
    }
    return _json(said)


def named_before(payload: bytes | memoryview) -> dict[str, Platform]:
    """The components of tasks that a discovery message of ours names. Whatever else it is, it names none."""
    if len(payload) > LONGEST_CONFIG:
        return {}
    try:
        said = json.loads(bytes(payload))
        names = list(said["components"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {name: OF_TASK[found[1]] for name in names if (found := _OF_TASK.fullmatch(name))}


def facts(figures: Figures) -> tuple[object, ...]:
    """What an owner wants to see change at once: all else are numbers."""
    governed = figures.governed
    return (activity(figures), tuple(task.key for task in figures.tasks), governed.is_paused, governed.limit)


def activity(figures: Figures) -> str:
    """One word of `ACTIVITIES` for what the device does."""
    if figures.governed.is_paused:
        return "paused"
    members = [task for task in figures.tasks if task.role == "member"]
    if members:
        return "at rest" if all(task.is_resting for task in members) else "learning"
    return "serving" if figures.tasks else "idle"


def state(figures: Figures) -> bytes:
    """The device's figures. What is not known is null, which Home Assistant takes for unknown."""
    governed = figures.governed
    energy_j = governed.energy_j_today
    return _json(
        {
            "activity": activity(figures),
            "learns": _short(", ".join(task.name for task in figures.tasks) or NOTHING),
            "tasks": len(figures.tasks),
            "peers": figures.num_alive,
            "temperature": _round(governed.temperature_c, 1),
            "energy": _round(None if energy_j is None else energy_j / 3600, 2),
            "traffic": _round(governed.bytes_today / 1e6, 3),
            "paused": ON if governed.is_paused else OFF,
            "limit": _short(governed.why or governed.limit or NOTHING),
            "until": _time(governed.until_s),
        }
    )


def task_state(task: TaskFigures) -> bytes:
    """A task's figures."""
    scale = 100 if is_share(task.metric_name) else 1
    return _json(
        {
            "round": task.round if task.round is not None else task.age,
            "metric": _round(task.metric, 5, scale),
            "baseline": _round(task.baseline, 5, scale),
            "peers": task.num_peers,
        }
    )


def is_share(metric: str) -> bool:
    """Whether a metric is a share of samples, which people read in percent."""
    return metric.endswith("accuracy")


def _of_device(topics: Topics, shape: Shape) -> dict[str, dict[str, Any]]:
    def sensor(key: str, name: str, icon: str = "", **more: Any) -> dict[str, Any]:
        return _sensor(topics.state, key, name, icon, **more)

    found = {
        "activity": sensor("activity", "Activity", "mdi:school", device_class="enum", options=list(ACTIVITIES)),
        "learns": sensor("learns", "Learns", "mdi:format-list-bulleted"),
        "tasks": sensor("tasks", "Tasks", "mdi:counter", state_class="measurement"),
        "peers": sensor("peers", "Peers", "mdi:account-group", state_class="measurement"),
        "limit": sensor("limit", "Limited by", "mdi:speedometer-slow", entity_category="diagnostic"),
        "until": sensor("until", "Limited until", device_class="timestamp", entity_category="diagnostic"),
    }
    if shape.temperature:
        found["temperature"] = sensor(
            "temperature",
            "Temperature",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
        )
    if shape.energy:
        found["energy"] = sensor(
            "energy", "Energy today", device_class="energy", unit_of_measurement="Wh", state_class="total_increasing"
        )
    found["traffic"] = sensor(
        "traffic", "Sent today", device_class="data_size", unit_of_measurement="MB", state_class="total_increasing"
    )
    if shape.commands:
        found["pause"] = {
            "platform": "switch",
            "name": "Pause learning",
            "icon": "mdi:pause-circle",
            "state_topic": topics.state,
            "value_template": "{{ value_json.paused }}",
            "command_topic": topics.pause,
            "payload_on": ON,
            "payload_off": OFF,
            "qos": 1,
        }
    return found


def _of_task(task: TaskFigures, topics: Topics, shape: Shape) -> dict[str, dict[str, Any]]:
    of, named = topics.task(task.key), task.name if task.version == 1 else f"{task.name} v{task.version}"

    def sensor(key: str, name: str, icon: str, **more: Any) -> dict[str, Any]:
        return _sensor(of, key, f"{named} {name}", icon, state_class="measurement", **more)

    unit: dict[str, Any] = (
        {"unit_of_measurement": "%", "suggested_display_precision": 1}
        if is_share(task.metric_name)
        else {"suggested_display_precision": 4}
    )
    found = {"round": sensor("round", "round" if task.role == "member" else "model age", "mdi:counter")}
    if task.role == "member":
        found["metric"] = sensor("metric", task.metric_name, "mdi:chart-line", **unit)
        found["baseline"] = sensor("baseline", f"{task.metric_name} without learning", "mdi:minus", **unit)
        found["peers"] = sensor("peers", "peers", "mdi:account-group")
    if task.role == "member" and shape.commands:
        found["leave"] = {
            "platform": "button",
            "name": f"Leave {named}",
            "icon": "mdi:exit-run",
            "command_topic": topics.leave(task.key),
            "payload_press": PRESS,
            "entity_category": "config",
            "qos": 1,
        }
    return {f"task_{task.key}_{key}": component for key, component in found.items()}


def _sensor(topic: str, key: str, name: str, icon: str, **more: Any) -> dict[str, Any]:
    shown = {"icon": icon} if icon else {}
    return {
        "platform": "sensor",
        "name": name,
        "state_topic": topic,
        "value_template": f"{{{{ value_json.{key} }}}}",
        **shown,
        **more,
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_STATE else text[: LONGEST_STATE - 1] + "…"


def _round(value: float | None, digits: int, scale: float = 1) -> float | None:
    return None if value is None else round(scale * value, digits)


def _time(unix_s: float | None) -> str | None:
    """As Home Assistant reads it; None for what is no time."""
    if unix_s is None:
        return None
    try:
        return datetime.fromtimestamp(int(unix_s), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _json(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
