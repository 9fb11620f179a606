"""`mqtt.online_s` and `mqtt.every_s`: when a device that sleeps is connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.settings import MOST_ASLEEP_S

MOST_SHARE: Final = 0.9  # of the time that a device which sleeps is connected
EXAMPLE: Final = "online_s = 300 and every_s = 3600 are five minutes of each hour"


def read_sleep(table: Table, *, needed_as: Mapping[str, bool]) -> tuple[float, float]:
    """For how long this device is connected, and of how long; 0 and 0: always.

    `needed_as`: settings by which others count on it, and whether they are set. Raises `ConfigError`.
    """
    online_s = table.number("online_s", 0.0, low=1.0, high=MOST_SHARE * MOST_ASLEEP_S)
    every_s = table.number("every_s", 0.0, low=2.0, high=MOST_ASLEEP_S)
    if online_s and not every_s:
        table.wrong("online_s", f"needs every_s too: {EXAMPLE}", beside=["every_s"])
    if every_s and not online_s:
        table.wrong("every_s", f"needs online_s too: {EXAMPLE}", beside=["online_s"])
    most_s = MOST_SHARE * every_s
    if online_s > most_s > 0:
        table.wrong(
            "online_s",
            f"leaves too little of every_s = {every_s:g} to sleep; write {most_s:g} or less, or leave out both to be "
            "connected all the time",
        )
    for key, is_set in needed_as.items():
        if online_s and is_set:
            table.wrong("online_s", f"others count on this device with {key} = true; leave out one of the two")
    return online_s, every_s
