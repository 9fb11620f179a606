"""What applications may ask of this device: `[agent] labels`, and `[engine]` for their containers.

There is no engine unless the owner says so, and no image runs that the owner has not named by its digest. That word is
the consent: whatever an application asks for, it is one of these images with these ports, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.settings import EngineRules
from grapevine_proto.application import RESERVED
from grapevine_proto.labels import IMAGE, LABEL_KEY, LABEL_VALUE, MAX_LABELS

_LABELS: Final = 'labels = { room = "kitchen", floor = "2" }'
_IMAGE: Final = '"docker.io/library/nginx@sha256:<64 hexadecimal digits>"'
MOST_CONTAINERS: Final = 32


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """`[engine]`, where it is enabled. `command`: Docker's, or one that takes the same words, such as podman."""

    command: str = "docker"
    allow_images: tuple[str, ...] = ()
    allow_ports: tuple[int, ...] = ()
    publish_on: str = "127.0.0.1"  # the address on which allowed ports can be reached
    memory_mb: int = 256  # of all containers together
    cpus: float = 1.0
    max_containers: int = 4

    @property
    def rules(self) -> EngineRules:
        """What the core is told of it."""
        return EngineRules(
            images=frozenset(self.allow_images),
            ports=frozenset(self.allow_ports),
            memory_mb=self.memory_mb,
            cpu_thousandths=round(1000 * self.cpus),
            most=self.max_containers,
        )


def read_engine(table: Table) -> EngineConfig | None:
    """`[engine]`; None where it is not enabled. Raises `ConfigError`."""
    enabled = table.boolean("enabled", False)
    config = EngineConfig(
        command=table.text("command", EngineConfig.command, pattern=r"[A-Za-z0-9_./-]+", hint='"docker"'),
        allow_images=table.texts("allow_images", pattern=IMAGE.pattern, hint=_IMAGE),
        allow_ports=table.integers("allow_ports", low=1, high=65_535, what="ports", hint="8080"),
        publish_on=table.text(
            "publish_on", EngineConfig.publish_on, pattern=r"[0-9]{1,3}(\.[0-9]{1,3}){3}", hint='"127.0.0.1"'
        ),
        memory_mb=table.integer("memory_mb", EngineConfig.memory_mb, low=6, high=1 << 20),
        cpus=table.number("cpus", EngineConfig.cpus, low=0.01, high=1024.0),
        max_containers=table.integer("max_containers", EngineConfig.max_containers, low=1, high=MOST_CONTAINERS),
    )
    if enabled and not config.allow_images:
        table.wrong("allow_images", f"an engine that may run nothing; write allow_images = [{_IMAGE}]")
    return config if enabled else None


def read_labels(agent: Table) -> tuple[tuple[str, str], ...]:
    """`labels` of `[agent]`, sorted by key. Raises `ConfigError`."""
    with agent.apart():
        return _labels(agent)
    return ()


def _labels(agent: Table) -> tuple[tuple[str, str], ...]:
    written = agent.anything("labels")
    if isinstance(written, str):  # from the environment: room=kitchen,floor=2
        pairs = [each.partition("=") for each in written.split(",") if each.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise agent.error("labels", f"must be a table; write {_LABELS}")
        written = {key.strip(): value.strip() for key, _, value in pairs}
    if written is None:
        return ()
    if not isinstance(written, dict):
        raise agent.error("labels", f"must be a table; write {_LABELS}")
    if len(written) > MAX_LABELS:
        raise agent.error(
            "labels", f"has {len(written)} labels, and at most {MAX_LABELS} are announced; leave some out"
        )
    for key, value in written.items():
        if key in RESERVED:
            raise agent.error("labels", f"{key!r} is what every agent says of itself; name the label otherwise")
        if not LABEL_KEY.fullmatch(key):
            raise agent.error(
                "labels", f"{key!r} is no label: up to 63 of a-z, 0-9, '.', '_', '/' and '-'; write {_LABELS}"
            )
        if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            raise agent.error(
                "labels",
                f"{key} = {value!r} is no label's value: a text of up to 63 letters, digits, spaces, '.', '_' and '-'; "
                f"write {_LABELS}",
            )
    return tuple(sorted((key, str(value)) for key, value in written.items()))
