"""`[metrics]`: whether, and where, Prometheus may fetch this device's figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from grapevine_agent.config.toml_reader import Table

DEFAULT_PORT: Final = 9464
_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """`[metrics]`; off unless the owner asks for it."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    allow_remote: bool = False

    @property
    def listen(self) -> str:
        """As the owner writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_metrics(table: Table) -> MetricsConfig:
    """The table. Raises `ConfigError`: other machines are let in only where the owner says so."""
    enabled, allow_remote = table.boolean("enabled", False), table.boolean("allow_remote", False)
    host, port = MetricsConfig.host, MetricsConfig.port
    with table.apart():
        host, port = _read_listen(table, allow_remote=allow_remote)
    return MetricsConfig(enabled=enabled, host=host, port=port, allow_remote=allow_remote)


def _read_listen(table: Table, *, allow_remote: bool) -> tuple[str, int]:
    """The address and the port of `listen`. Raises `ConfigError`."""
    found = _LISTEN.fullmatch(table.text("listen", MetricsConfig().listen))
    port = int(found["port"]) if found else 0
    if found is None or not 1 <= port <= 65_535:
        raise table.error("listen", f'must be an address and a port; write listen = "127.0.0.1:{DEFAULT_PORT}"')
    host = "127.0.0.1" if found["host"] == "localhost" else found["v6"] or found["host"]
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        example = f'listen = "127.0.0.1:{port}"'
        raise table.error("listen", f"{host!r} is no IP address of this device; write {example}") from None
    if not is_local and not allow_remote:
        raise table.error(
            "listen",
            f"would let other machines read this device's figures, without a login; write 127.0.0.1:{port}, or add "
            "allow_remote = true",
        )
    return host, port
