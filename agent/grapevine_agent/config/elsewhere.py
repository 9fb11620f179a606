"""What keys need to have an effect, and which tables of lists take which keys, for hints at the right place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grapevine_agent.config.data import read_sources
from grapevine_agent.config.mistakes import Mistakes
from grapevine_agent.config.review import read_consent_rules
from grapevine_agent.config.toml_reader import Table
from grapevine_agent.config.trainers import read_trainers
from grapevine_agent.data.formats import FORMATS

logger = logging.getLogger(__name__)

# A key of [mqtt], the key that it has no effect without, and what to write.
NEEDED_BY_MQTT: Final = {
    "discover_on": ("discover", "discover = true"),
    "host_after_s": ("host_broker", "host_broker = true"),
}


def warn_of_no_effect(table: Table, needed: Mapping[str, tuple[str, str]]) -> None:
    """Warn of keys that were written in vain, for what they are about is not switched on."""
    for key, (other, write) in needed.items():
        if table.holds(key) and table.anything(other) in (None, False, "false", "0"):
            logger.warning(
                "%s: %s has no effect without %s; write %s, or leave it out",
                table.where(key),
                table.path(key),
                other,
                write,
            )


def keys_of_lists() -> dict[str, set[str]]:
    """The keys of each table that there may be several of, by header: of all kinds of sources together."""
    keys: dict[str, set[str]] = {"[[data]]": set()}
    for format_ in FORMATS:
        table = _blank("data", {"source": format_, "kind": "any", "path": "any", "columns": {"any": "$"}})
        read_sources([table], Path, Path("any"), "any")
        keys["[[data]]"] |= table.asked
    for header, table, read in (
        ("[[trainer]]", _blank("trainer", {}), read_trainers),
        ("[[consent]]", _blank("consent", {}), read_consent_rules),
    ):
        read([table])
        keys[header] = table.asked
    return keys


def _blank(name: str, entries: Mapping[str, object]) -> Table:
    """A table that is read for what is asked of it; what is wrong with it is nobody's business."""
    return Table(entries, source="", name=f"{name}[1]", mistakes=Mistakes())
