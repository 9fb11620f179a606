"""How brokers receive this agent, for its owner: what they speak, what is in the way, whether it has a double."""

from __future__ import annotations

import logging

from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.net.events import Connected, Disconnected, Listening, Trying
from grapevine_agent.net.packet_limit import SMALLEST_BYTES
from grapevine_agent.service import clock
from grapevine_agent.service.double import Double
from grapevine_agent.service.finding_out import why_not_all

logger = logging.getLogger(__name__)


class Reception:
    """Takes what the transport tells, says it in the log, and remembers it. `all_refuse`: see `Trying`."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self.version = ""  # of MQTT, as it is spoken with the last broker that took us in
        self.all_refuse = False
        self._said: set[str] = set()
        self.packets = ""  # that the broker takes smaller packets than the owner allows
        self.gives: BrokerAbilities | None = None  # of what it retains; None: that is being found out
        self._trouble = ""

    @property
    def cannot(self) -> list[str]:
        """What the broker cannot do, and what that means, one line each."""
        return [line for line in (why_not_all(self.gives), self.packets) if line]

    @property
    def trouble(self) -> str:
        """What the owner should know; empty while all is well."""
        return self.double.trouble(clock.now().monotonic_s) or self._trouble

    def connected(self, event: Connected) -> None:
        """A broker took us in."""
        self._trouble, self.all_refuse, self.version = "", False, event.version
        self.gives = None
        self._hear_limit(event)
        if event.refused:
            logger.warning("%s refuses subscriptions to %s", event.url, ", ".join(event.refused))

    def found(self, gives: BrokerAbilities) -> None:
        """What the broker does with what it retains is known, or known better."""
        before, self.gives = why_not_all(self.gives), gives
        if (line := why_not_all(gives)) and line != before and line not in self._said:
            self._said.add(line)  # not again at each connection
            logger.warning("%s", line)

    def listening(self, event: Listening) -> None:
        """A filter of records has had its turn."""
        if event.is_refused:
            logger.warning("the broker refuses a subscription to %s: check its access rules", event.filter)

    def _hear_limit(self, event: Connected) -> None:
        known, self.packets = self.packets, ""
        if event.has_learnt_limit:
            self.packets = (
                f"{event.url} closes the connection at large packets and does not say what it takes: none above "
                f"{event.max_packet_bytes:,} bytes are sent (mqtt.max_packet_bytes is more)"
            )
        elif event.max_packet_bytes < event.wanted_packet_bytes:
            self.packets = narrow(str(event.url), event.max_packet_bytes, event.wanted_packet_bytes)
        if self.packets and self.packets != known:
            logger.warning("%s", self.packets)

    def lost(self, event: Disconnected, *, is_wanted: bool) -> None:
        """A connection ended, because we leave or against our will."""
        self._trouble = "" if is_wanted else f"lost {event.url}: {event.reason}"
        if is_wanted:
            return
        now_s = clock.now().monotonic_s
        self.double.lost(event.reason, now_s)
        if told := self.double.trouble(now_s):
            logger.warning("%s", told)

    def tried(self, event: Trying) -> None:
        """A broker could not be reached, or did not take us in."""
        self._trouble, self.all_refuse = f"cannot reach {event.url}: {event.reason}", event.all_refuse
        told = "cannot reach %s: %s; trying %s in %.0f s"
        logger.warning(told, event.url, event.reason, event.next_url, event.retry_in_s)


def narrow(broker: str, takes_bytes: int, wanted_bytes: int) -> str:
    """What a broker's announced packet limit means for us, in one line for its owner."""
    if takes_bytes < SMALLEST_BYTES:
        return (
            f"{broker} takes no packets above {takes_bytes:,} bytes: too little for models, and records are refused as "
            f"well; raise its limit to {SMALLEST_BYTES:,} bytes at least (Mosquitto: max_packet_size)"
        )
    return (
        f"{broker} takes no packets above {takes_bytes:,} bytes, and mqtt.max_packet_bytes allows {wanted_bytes:,}: "
        "what is larger travels in chunks, which takes longer; raise its limit (Mosquitto: max_packet_size)"
    )
