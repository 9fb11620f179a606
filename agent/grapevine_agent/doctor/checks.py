"""All checks, in the order in which they are told, each with its deadline.

The longest may take half a minute: a broker that answers nothing, on a device that is slow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from grapevine_agent.config.agent_toml import Config, check_files
from grapevine_agent.control.client import call
from grapevine_agent.doctor import brokers, clock, configured, disk, machine, sources, tls, trainer, trust, wear
from grapevine_agent.doctor.asking import Asking, Met
from grapevine_agent.doctor.examination import Check, beside, plainly
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import ASK_WITHIN_S, Situation
from grapevine_agent.doctor.unit import is_user
from grapevine_agent.net import discovery
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.assembly import configured_sources, transport_for
from grapevine_agent.training.attached import DESCRIBE_TIMEOUT_S
from grapevine_agent.units import USER
from grapevine_proto.errors import ConfigError, GrapevineError
from grapevine_proto.signing import SigningKey

SYSTEM_S: Final = 8.0  # for what the kernel and the disk say
BROKER_S: Final = 20.0
LEAVING_S: Final = 8.0  # to erase what was retained, and to say goodbye
CONNECT_S: Final = 5.0
BACKOFF_S: Final = (0.2, 1.0)  # where it ends connections over what it is asked
DATA_S: Final = 20.0
TRAINER_S: Final = 25.0


@dataclass(kw_only=True)
class _Encounters:
    """The brokers as they are met, for the clock as well."""

    met: list[Met] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


def checks_of(situation: Situation) -> list[Check]:
    """What is to be looked at, here."""
    encounters = _Encounters()
    dog = "the disk or the kernel has not answered"
    return [
        Check(name="configuration", within_s=SYSTEM_S, look=plainly(partial(configured.configuration, situation))),
        Check(name="agent", within_s=SYSTEM_S, look=plainly(partial(configured.agent, situation))),
        Check(name="identity", within_s=SYSTEM_S, look=plainly(partial(configured.identity, situation)), slow=dog),
        Check(name="board", within_s=SYSTEM_S, look=plainly(machine.board), slow=dog),
        Check(name="profile", within_s=SYSTEM_S, look=plainly(partial(configured.profile, situation))),
        Check(name="memory", within_s=SYSTEM_S, look=plainly(partial(machine.memory, situation)), slow=dog),
        Check(name="state", within_s=SYSTEM_S, look=plainly(partial(disk.state, situation)), slow=dog),
        Check(name="disk", within_s=SYSTEM_S, look=plainly(partial(disk.disk, situation)), slow=dog),
        Check(name="wear", within_s=SYSTEM_S, look=plainly(partial(wear.wear, situation)), slow=dog),
        Check(
            name="broker", within_s=BROKER_S + LEAVING_S, look=partial(_brokers, situation, encounters), slow="no end"
        ),
        Check(name="clock", within_s=BROKER_S + LEAVING_S, look=partial(_clock, situation, encounters)),
        *_data(situation),
        Check(name="trust", within_s=SYSTEM_S, look=plainly(partial(_trust, situation))),
        *_trainers(situation),
    ]


# --- brokers and the clock ------------------------------------------------------------------------


async def _brokers(situation: Situation, encounters: _Encounters) -> list[Finding]:
    try:
        found = await _asked(situation, encounters)
    finally:
        encounters.over.set()
    return [*found, *brokers.as_the_agent_sees_it(situation.status, found)]


async def _asked(situation: Situation, encounters: _Encounters) -> list[Finding]:
    """What the brokers answer, as far as it is known which to ask, and as whom."""
    config = situation.config
    if config is None or not situation.knows("mqtt", "agent"):
        return [Finding(check="broker", level="skip", says="which brokers to ask is not known")]
    if situation.lacks_files:
        says = "not asked without the file that [mqtt] names"
        return [Finding(check="broker", level="skip", says=says, remedy="see configuration above")]
    try:
        check_files(replace(config, mqtt=replace(config.mqtt, password_file=None)))  # which may have been read before
        password = config.mqtt.read_password()
    except ConfigError as error:
        remedy = "run this as the agent's user, or correct the path"
        if situation.unit is not None or is_user(USER):
            remedy = "run this as root, which reads what systemd hands to the service: sudo grapevine doctor"
        return [Finding(check="broker", level="skip", says=str(error), remedy=remedy)]
    is_named = bool(config.mqtt.username)
    if not situation.peer and not is_named and (password or config.mqtt.cert_file):
        says = "the user name is this device's own id, which is not known here"
        remedy = "run this as the agent's user, after its first start; or write username into [mqtt]"
        return [Finding(check="broker", level="skip", says=says, remedy=remedy)]
    urls = [BrokerUrl.parse(each) for each in config.mqtt.brokers]
    asked = (_broker(situation, config, url, encounters, has_password=bool(password)) for url in urls)
    found = brokers.all_together(await asyncio.gather(*asked))
    return [*_discovery(config, situation), *(_not_alone(found) if config.mqtt.discover else found)]


async def _broker(
    situation: Situation, config: Config, url: BrokerUrl, encounters: _Encounters, *, has_password: bool
) -> list[Finding]:
    mqtt, peer = config.mqtt, situation.peer or SigningKey.generate().peer_id
    met = Met(url=str(url))
    encounters.met.append(met)
    handshake = beside(partial(tls.tls, url, mqtt, has_password=has_password))
    transport = transport_for(config, peer, [url], True, lambda: None, connect_s=CONNECT_S, backoff_s=BACKOFF_S)
    asking = Asking(
        transport=transport,
        root=mqtt.root,
        peer=peer,
        own=situation.peer,
        wanted_bytes=mqtt.max_packet_bytes,
        met=met,
    )
    with suppress(TimeoutError):  # what is known by then is told
        async with asyncio.timeout(BROKER_S):
            await asking.run()
    reached, *others = brokers.findings_of(
        met,
        root=mqtt.root,
        peer=peer,
        wanted_bytes=mqtt.max_packet_bytes,
        user=mqtt.username or (peer if has_password or mqtt.cert_file else ""),
        is_stand_in=not situation.peer,
    )
    encrypted = await handshake
    if any(each.level == "fail" and each.says == reached.says for each in encrypted):
        reached = replace(reached, says="there is no encrypted connection to it", remedy="see tls below")
    return [reached, *encrypted, *others]


def _discovery(config: Config, situation: Situation) -> list[Finding]:
    """Brokers that are looked for, too: only the agent that runs knows which it has found."""
    if not config.mqtt.discover:
        return []
    try:
        discovery.check_installed()
    except ConfigError as error:
        return [Finding(check="discovery", level="fail", says=str(error))]
    told = situation.status.get("discovery")
    if not told:
        says = "brokers are looked for on the network while an agent runs"
        return [Finding(check="discovery", level="skip", says=says)]
    says = f"found: {', '.join(told['found']) or 'none yet'}"
    says += f"; hosting one at {told['hosting']}" if told.get("hosting") else ""
    facts = {"found": list(told["found"]), "hosting": told.get("hosting") or ""}
    if told.get("trouble"):
        return [Finding(check="discovery", level="warn", says=f"{says}; {told['trouble']}", facts=facts)]
    return [Finding(check="discovery", level="ok", says=says, facts=facts)]


def _not_alone(found: list[Finding]) -> list[Finding]:
    """Where brokers are found as well, one that is configured and away is no failure."""
    return [replace(each, level="warn") if each.check == "broker" and each.level == "fail" else each for each in found]


async def _clock(situation: Situation, encounters: _Encounters) -> list[Finding]:
    kept, battery, not_before = await beside(lambda: (clock.is_kept(), clock.has_battery(), clock.youngest(situation)))
    await encounters.over.wait()
    ahead_s: dict[str, float] = {}
    for met in encounters.met:
        ahead_s |= met.ahead_s
    return clock.clock(now_s=time.time(), kept=kept, battery=battery, not_before=not_before, ahead_s=ahead_s.values())


# --- data, trust, trainers ------------------------------------------------------------------------


def _data(situation: Situation) -> list[Check]:
    config, profile = situation.config, situation.profile
    if config is None or not situation.knows("data", "agent", "mqtt"):
        skipped = [Finding(check="data", level="skip", says="which sources there are is not known")]
        return [Check(name="data", within_s=SYSTEM_S, look=plainly(lambda: skipped))]
    found = configured_sources(config, profile) if profile is not None else config.data
    if not found:
        return [Check(name="data", within_s=SYSTEM_S, look=plainly(partial(sources.no_sources, situation)))]
    silent = sources.why_silent(situation)
    return [
        Check(
            name="data",
            about=each.name,
            within_s=DATA_S,
            look=partial(sources.source, each, silent.get(each.name, ())),
            slow="it has not been read to its end",
        )
        for each in found
    ]


def _trust(situation: Situation) -> list[Finding]:
    """With what the running agent has heard of others."""
    heard_of: Mapping[str, bool] = {}
    if situation.agent == "runs" and situation.socket is not None:
        with suppress(GrapevineError, KeyError, TypeError):
            told = call(situation.socket, "peers", {}, timeout_s=ASK_WITHIN_S)
            heard_of = {str(each["peer"]): bool(each["alive"]) for each in told["peers"]}
    return trust.trust(situation, heard_of)


def _trainers(situation: Situation) -> list[Check]:
    slow = "no training step has come to an end"
    found = [
        Check(name="trainer", within_s=TRAINER_S + 2.0, look=partial(trainer.trainer, situation, TRAINER_S), slow=slow)
    ]
    if situation.config is None or not situation.knows("trainer"):
        return found
    return [
        *found,
        *(
            Check(
                name="trainer",
                about=each.url,
                within_s=DESCRIBE_TIMEOUT_S + 2.0,
                look=partial(trainer.attached, each),
            )
            for each in situation.config.trainers
        ),
    ]
