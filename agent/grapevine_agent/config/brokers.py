"""`mqtt.brokers`: URLs, without logins in them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from grapevine_agent.config.toml_reader import Table

BROKER_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
PASSWORD_VARIABLE: Final = "GRAPEVINE_MQTT_PASSWORD"  # noqa: S105 - the name of the variable, not a password


def read_brokers(table: Table, default: tuple[str, ...]) -> tuple[str, ...]:
    """The brokers of `[mqtt]`; the default where one of them is wrong, which is noted."""
    brokers = table.texts("brokers", default, hint='"mqtt://localhost:1883"')
    if not brokers:
        table.wrong("brokers", 'needs at least one; write brokers = ["mqtt://localhost:1883"]')
        return default
    for i, broker in enumerate(brokers, start=1):
        if "@" in broker:
            # Said without the URL, and before anything else is said of the list: this may be a secret.
            table.wrong_secret(
                "brokers",
                f"URL number {i} holds credentials; take them out and set mqtt.username and "
                f"mqtt.password_file (or {PASSWORD_VARIABLE})",
            )
            return default
    for broker in brokers:
        if remedy := _why_no_url(broker):
            table.wrong("brokers", f"{broker!r} {remedy}")
            return default
    return brokers


def _why_no_url(broker: str) -> str:
    try:
        url = urlsplit(broker)
        port_is_zero = url.port == 0
    except ValueError as error:
        return f"is no URL ({error}); write mqtt://host:1883"
    if url.scheme not in BROKER_PORTS or not url.hostname or port_is_zero:
        schemes = ", ".join(f"{scheme}://" for scheme in BROKER_PORTS)
        return f"is no broker URL; write mqtt://host:1883 (known: {schemes})"
    return ""
