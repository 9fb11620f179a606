"""Where this device is, and with which peers it exchanges models: `agent.location` and `mqtt.scope`.

A scope is a word or a table:

    scope = "everywhere"          nobody is out
    scope = "site"                the same as [mqtt.scope] site = true
    [mqtt.scope]                  all that is written must hold: site, within_km, within_ms, brokers

An owner writes a location as closely as a map gives it; it is rounded here, and nothing else ever sees more.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.settings import Scope
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto.errors import ConfigError
from grapevine_proto.location import Location

LEAST_KM: Final = 1.0  # places are told to a hundredth of a degree
MOST_KM: Final = 20_040.0  # half way round
MOST_MS: Final = 600_000.0
_LOCATION: Final = "[latitude, longitude] in degrees, such as location = [52.52, 13.40]"
_FORM: Final = (
    'write scope = "everywhere" or "site", or a table [mqtt.scope] with site, within_km, within_ms or brokers'
)


@dataclass(frozen=True, kw_only=True)
class ScopeConfig:
    """`mqtt.scope`: with which peers models are exchanged."""

    site: bool = False  # those of our own
    within_km: float = math.inf
    within_ms: float = math.inf
    brokers: tuple[str, ...] = ()  # those that are at one of them; none: any


def core_scope(scope: ScopeConfig, site: str) -> Scope:
    """The same as the core is told."""
    return Scope(
        site=site if scope.site else "",
        within_km=scope.within_km,
        within_ms=scope.within_ms,
        brokers=frozenset(BrokerUrl.parse(url).address for url in scope.brokers),
    )


def read_scope(mqtt: Table) -> ScopeConfig:
    """`scope` of `[mqtt]`, a word or a table. Raises `ConfigError`."""
    written = mqtt.anything("scope")
    if written is None:
        return ScopeConfig()
    if isinstance(written, str):
        return ScopeConfig(site=mqtt.text("scope", choices=("everywhere", "site")) == "site")
    if not isinstance(written, dict):
        mqtt.wrong("scope", _FORM)
        return ScopeConfig()
    table = mqtt.table("scope")
    scope = ScopeConfig(
        site=table.boolean("site", False),
        within_km=table.number("within_km", math.inf, low=LEAST_KM, high=MOST_KM),
        within_ms=table.number("within_ms", math.inf, low=0.1, high=MOST_MS),
        brokers=table.texts("brokers", hint='"mqtt://hub.local:1883"'),
    )
    table.finish()
    if "brokers" in written and not scope.brokers:
        table.wrong("brokers", "is empty, which would be any broker; name some, or leave the key out")
    if any("@" in url for url in scope.brokers):  # said without the URL: this may be a secret
        table.wrong_secret("brokers", "a URL holds credentials; write it as in mqtt.brokers, without them")
        return replace(scope, brokers=())
    return scope


def read_location(agent: Table) -> Location | None:
    """`location` of `[agent]`, to a hundredth of a degree; None where nothing is written. Raises `ConfigError`."""
    written = agent.anything("location")
    if isinstance(written, str):  # from the environment
        try:
            written = [float(part) for part in written.split(",")]
        except ValueError:
            agent.wrong("location", f"must be {_LOCATION}")
            return None
    if written is None:
        return None
    if not isinstance(written, list) or len(written) != 2 or not all(map(_is_number, written)):
        agent.wrong("location", f"must be {_LOCATION}")
        return None
    latitude, longitude = written
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        remedy = "a latitude is from -90 to 90 and comes first, a longitude from -180 to 180"
        agent.wrong("location", f"{remedy}; write {_LOCATION}")
        return None
    return Location(latitude=round(100 * latitude), longitude=round(100 * longitude))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_scope(mqtt: Table, scope: ScopeConfig, site: str, location: Location | None, among: Collection[str]) -> None:
    """Raise `ConfigError` for a scope that needs what is not there. `among`: all brokers; none: more may be found."""
    with mqtt.apart():
        _check_scope(mqtt, scope, site, location, among)


def _check_scope(mqtt: Table, scope: ScopeConfig, site: str, location: Location | None, among: Collection[str]) -> None:
    if scope.site and not site:
        mqtt.wrong("scope", 'is of a site; say which, in [agent]: site = "lakeside"', beside=["agent.site"])
    if scope.within_km < math.inf and location is None:
        remedy = "within_km is from where this device is; say so, in [agent]: location = [52.52, 13.40]"
        mqtt.wrong("scope", remedy, beside=["agent.location"])
    known = {_address(mqtt, url) for url in among}
    for url in scope.brokers:
        if _address(mqtt, url) not in known and known:
            remedy = f"{url!r} is none of mqtt.brokers, so nobody is met there; write {', '.join(known)}"
            mqtt.wrong("scope", remedy, beside=["brokers"])


def _address(mqtt: Table, url: str) -> str:
    try:
        return BrokerUrl.parse(url).address
    except ConfigError as error:
        raise mqtt.error("scope", str(error)) from None
