"""What asking a broker came to, in words for its owner: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.doctor.asking import Met
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.net.packet_limit import SMALLEST_BYTES
from grapevine_agent.service.finding_out import why_not_all
from grapevine_agent.service.reception import narrow

WIDE_BYTES: Final = 130_000  # a chunk and what is around it
_ACL: Final = (
    "give {user} these rights there: write {root}/peer/{peer}/#, read {root}/peer/#, write {root}/inbox/+/{peer}/#, "
    "read {root}/inbox/{peer}/#"
)


def findings_of(
    met: Met, *, root: str, peer: str, wanted_bytes: int, user: str = "", is_stand_in: bool = False
) -> list[Finding]:
    """All lines about one broker.

    Args:
        met: What came of asking it.
        root: Topic root.
        peer: Under whose topics it was asked.
        wanted_bytes: The largest packet that the owner allows.
        user: The user name; empty: none was said.
        is_stand_in: `peer` is a name made up for this, which the broker's rules need not know.
    """
    reached = _reached(met)
    if not met.connected:
        return [reached]
    rights = _rights(met, root, peer, user, is_stand_in=is_stand_in)
    if not met.comes and met.inbox != "taken":
        return [reached, rights]  # nothing comes back, so nothing more was seen
    return [reached, rights, _retained(met), _packets(met, wanted_bytes)]


def all_together(found: Sequence[list[Finding]]) -> list[Finding]:
    """Of several brokers: one that is away is no failure while another one has us."""
    has_one = any(each.check == "broker" and each.level == "ok" for lines in found for each in lines)
    flat = [each for lines in found for each in lines]
    if not has_one:
        return flat
    return [replace(each, level="warn") if each.check == "broker" and each.level == "fail" else each for each in flat]


def as_the_agent_sees_it(status: Mapping[str, Any], found: Sequence[Finding]) -> list[Finding]:
    """Why the agent that runs is not connected, where the findings do not say it already."""
    trouble = str(status.get("trouble") or "")
    if not trouble or status.get("connected") or (status.get("sleep") or {}).get("asleep"):
        return []
    if any(each.says in trouble for each in found if each.level in ("warn", "fail")):
        return []
    return [Finding(check="broker", level="warn", says=f"the agent that runs says: {trouble}", remedy="see its log")]


def split(reason: str) -> tuple[str, str]:
    """A reason of the network's own words, as what is wrong and what to do."""
    says, colon, remedy = reason.rpartition(": ")
    if not colon or remedy.count(")") != remedy.count("("):
        return reason, "look at the broker's log; the agent goes on trying"
    if remedy.startswith("write "):
        remedy += " into [mqtt] brokers"
    elif remedy.endswith("?"):
        remedy += " start it, or name another one in [mqtt] brokers"
    return says, remedy


def _reached(met: Met) -> Finding:
    facts: dict[str, Any] = {
        "mqtt_version": met.version,
        "software": met.software,
        "trip_ms": None if met.trip_s is None else round(met.trip_s * 1e3, 1),
    }
    if not met.connected:
        says, remedy = split(met.trouble or "no answer yet")
        if "not yet valid" in says:
            remedy = "see the clock below: the certificate is of a time that this clock has not reached"
        return Finding(check="broker", about=met.url, level="fail", says=says, remedy=remedy, facts=facts)
    says = f"takes us in, MQTT {met.version}"
    says += f", {met.software}" if met.software else ""
    says += f", {met.trip_s * 1e3:.0f} ms" if met.trip_s is not None else ""
    return Finding(check="broker", about=met.url, level="ok", says=says, facts=facts)


def _rights(met: Met, root: str, peer: str, user: str, *, is_stand_in: bool) -> Finding:
    facts = {
        "record": met.record,
        "read": met.read,
        "comes": met.comes,
        "inbox": met.inbox,
        "peer": peer,
        "user": user,
        "is_stand_in": is_stand_in,
    }
    wrong = _wrong(met, root, peer)
    if not wrong and not met.is_done:
        says = "it was too slow to be asked all of it"
        remedy = "try again when the line, or the broker, has less to do"
        return Finding(check="access", about=met.url, level="warn", says=says, remedy=remedy, facts=facts)
    if not wrong:
        says = "what we publish comes back, and what is sent to our inbox comes"
        return Finding(check="access", about=met.url, level="ok", says=says, facts=facts)
    remedy = _ACL.format(user=f"the user {user!r}" if user else "anonymous clients", root=root, peer=peer)
    if user and user != peer:
        remedy += "; or, where rules go by user name (%u), log in as this peer: leave username out of [mqtt]"
    if is_stand_in:
        says = f"{wrong}; but this was tried under a name made up for it, as this device's own is not known here"
        remedy = "run this again as the agent's user, after its first start"
        return Finding(check="access", about=met.url, level="warn", says=says, remedy=remedy, facts=facts)
    return Finding(check="access", about=met.url, level="fail", says=wrong, remedy=remedy, facts=facts)


def _wrong(met: Met, root: str, peer: str) -> str:
    """What its access rules forbid, as far as it shows; empty if nothing."""
    ours, inbox = f"{root}/peer/{peer}/…", f"{root}/inbox/{peer}/…"
    parts: list[str] = []
    if met.read in ("refused", "closed"):
        did = "refuses" if met.read == "refused" else "ends the connection at"
        parts.append(f"it {did} the subscription to {root}/peer/+/…")
    elif not met.comes:
        if met.record == "refused":
            parts.append(f"it refuses what we publish on {ours} ({_short(met.why_refused)})")
        elif met.record == "closed":
            parts.append(f"it ends the connection when we publish on {ours}")
        elif met.record == "silent":
            parts.append(f"it does not acknowledge what we publish on {ours}")
        elif met.comes is not None:
            parts.append(f"it drops what we publish on {ours}, or does not let us read {root}/peer/#")
    if met.inbox == "refused":
        parts.append(f"it refuses our inbox, {inbox} ({_short(met.inbox_why) or 'the subscription'})")
    elif met.inbox == "closed":
        parts.append(f"it ends the connection over our inbox, {inbox}")
    elif met.inbox == "silent":
        parts.append(f"what is sent to our inbox, {inbox}, does not come")
    return "; ".join(parts)


def _retained(met: Met) -> Finding:
    facts = {"record": met.record, "wildcard": met.wildcard, "exact": met.exact}
    if met.wildcard:
        says = "it keeps what is retained, and gives it to wildcards"
        return Finding(check="retained", about=met.url, level="ok", says=says, facts=facts)
    if met.comes and met.record in ("closed", "refused"):
        did = "ends the connection over" if met.record == "closed" else "refuses"
        says = f"it {did} a message that is to be retained, as all records are ({_short(met.why_refused)})"
        remedy = "let it retain (Mosquitto: retain_available true), or use another broker"
        return Finding(check="retained", about=met.url, level="fail", says=says, remedy=remedy, facts=facts)
    if not met.comes:
        says = "not known: nothing that we publish comes back"
        return Finding(check="retained", about=met.url, level="skip", says=says, facts=facts)
    says = why_not_all(BrokerAbilities(wildcard=False, exact=bool(met.exact)))
    remedy = "it works, and newcomers learn more slowly of tasks; a broker that retains is better"
    remedy += "" if met.exact else " (Mosquitto: retain_available true)"
    return Finding(check="retained", about=met.url, level="warn", says=says, remedy=remedy, facts=facts)


def _packets(met: Met, wanted_bytes: int) -> Finding:
    facts = {
        "wanted_bytes": wanted_bytes,
        "announced_bytes": met.announced_bytes,
        "came_bytes": met.large_bytes,
        "tried_bytes": met.tried_bytes,
    }
    most = met.announced_bytes if met.announced_bytes is not None else wanted_bytes
    if met.large == "taken":
        if most >= wanted_bytes or most >= WIDE_BYTES:
            less = f" of the {wanted_bytes:,} that mqtt.max_packet_bytes allows" if most < wanted_bytes else ""
            says = f"packets of {met.large_bytes:,} bytes{less} come through"
            return Finding(check="packets", about=met.url, level="ok", says=says, facts=facts)
        says, remedy = _split_narrow(most, wanted_bytes)
        level: Any = "fail" if most < SMALLEST_BYTES else "warn"
        return Finding(check="packets", about=met.url, level=level, says=says, remedy=remedy, facts=facts)
    if met.announced_bytes is not None and met.announced_bytes < SMALLEST_BYTES:
        says, remedy = _split_narrow(met.announced_bytes, wanted_bytes)
        return Finding(check="packets", about=met.url, level="fail", says=says, remedy=remedy, facts=facts)
    if met.large == "silent" and not met.large_bytes:
        says = f"a packet of {met.tried_bytes:,} bytes did not come through in a few seconds: its limit is not known"
        remedy = (
            "a slow line, or a limit that it does not say: write max_packet_bytes into [mqtt] if models do not arrive"
        )
        return Finding(check="packets", about=met.url, level="warn", says=says, remedy=remedy, facts=facts)
    if met.large in ("closed", "refused", "silent"):
        did = {"closed": "ends the connection over", "refused": "refuses", "silent": "drops"}[met.large]
        says = f"it {did} a packet of {met.tried_bytes:,} bytes, and does not say beforehand what it takes"
        says += f"; {met.large_bytes:,} bytes came through" if met.large_bytes else ""
        remedy = "raise its limit (Mosquitto: max_packet_size, message_size_limit)"
        if met.large_bytes:
            remedy += f", or write max_packet_bytes = {met.large_bytes} into [mqtt]; larger models travel in chunks"
        return Finding(check="packets", about=met.url, level="warn", says=says, remedy=remedy, facts=facts)
    return Finding(
        check="packets", about=met.url, level="skip", says="not known: there was no time to try", facts=facts
    )


def _split_narrow(most: int, wanted_bytes: int) -> tuple[str, str]:
    says, _, remedy = narrow("it", most, wanted_bytes).rpartition("; ")
    return says, remedy


def _short(why: str) -> str:
    """The reason alone, of a sentence that names the broker as well."""
    within = why.rpartition("acknowledged (")[2] if "acknowledged (" in why else why.rpartition(": ")[2]
    return within.removesuffix(")")[:100]
