"""What a broker does with what it retains, as a shell has found out (see `service/finding_out.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BrokerAbilities:
    """Of the broker that we are connected to. Until a shell says more it is taken for a good one."""

    wildcard: bool = True  # a subscription with + brings what is retained
    exact: bool = True  # one without does
    may_lack: bool = False  # so much came for one filter that some may not have
    max_packet_bytes: int = 1_000_000
    shared: bool = False  # it has shared subscriptions (MQTT 5)

    @property
    def gives_all(self) -> bool:
        """Whether nothing has to be asked of peers."""
        return self.wildcard and not self.may_lack
