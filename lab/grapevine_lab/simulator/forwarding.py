"""What a simulated gateway carries between its brokers, by the rules of `service/forwarding.py`."""

from __future__ import annotations

from typing import Final

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.service.forwarding import BURST_S
from grapevine_lab.simulator.letters import Letter, opened
from grapevine_proto.codec import with_hops
from grapevine_proto.errors import WireError
from grapevine_proto.quotas import Bucket, SenderQuota
from grapevine_proto.signing import Check
from grapevine_proto.topics import ChunkTopic, InboxTopic, Topic, writer_of

NOWHERE: Final[tuple[tuple[int, bytes], ...]] = ()


class Forwarding:
    """See the module's docstring. `bytes_per_s`: of what is carried, on average."""

    def __init__(self, bytes_per_s: float) -> None:
        self._budget = Bucket(per_s=bytes_per_s, burst=BURST_S * bytes_per_s)
        self._chunks = Bucket(per_s=bytes_per_s, burst=BURST_S * bytes_per_s)  # nobody signs them
        self._quota = SenderQuota()
        self.num_messages = 0
        self.num_bytes = 0

    def carried(
        self, core: AgentCore, topic: Topic, payload: bytes, number: int, now_s: float, check: Check
    ) -> tuple[tuple[int, bytes], ...]:
        """Where something goes that came by one broker, and as what. Raises `WireError` where it is not carried."""
        receiver = topic.receiver if isinstance(topic, InboxTopic) else ""
        if not core.gateway.is_open or receiver == core.settings.peer:
            return NOWHERE
        ways = core.gateway.ways_of(topic, receiver, number)
        if not ways:
            return NOWHERE
        self._quota.charge(writer_of(topic), len(payload), now_s)
        received = opened(payload, topic.below_root(), check, retained=False)
        hops = received.hops + 1
        if hops > received.message.hop_limit:
            raise WireError("hops", f"{topic.below_root()} has come far enough")
        if not self._budget.take(len(payload) * len(ways), now_s):
            raise WireError("over-quota", "more is to be carried between brokers than the owner lends")
        again = Letter(bytes(with_hops(payload, hops)))
        self.said(again, len(ways))
        return tuple((way, again) for way in ways)

    def ways_of_chunk(self, core: AgentCore, chunk: ChunkTopic, payload: bytes, number: int, now_s: float) -> list[int]:
        """Where a chunk goes that came by one broker, as it is. Raises `WireError` where it is not carried."""
        ways = core.gateway.ways_of(None, chunk.receiver, number)
        if ways and not self._chunks.take(len(payload) * len(ways), now_s):
            raise WireError("over-quota", "more is to be carried between brokers than the owner lends")
        self.said(payload, len(ways))
        return ways

    def said(self, payload: bytes, times: int = 1) -> None:
        """Count what is carried."""
        self.num_messages += times
        self.num_bytes += times * len(payload)
