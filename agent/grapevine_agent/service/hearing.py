"""What arrives on a topic, from bytes to the core's effects.

    topic ─▶ quota ─▶ is it worth reading? ─▶ verify, decode ─▶ the core's turn ─▶ effects
             └──────── a turn ──────────┘    beside the loop if large

One message after the other, in the order of their arrival. Whatever a peer sends ends here: a `WireError` becomes a
count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.events import Rejected, rejection
from grapevine_agent.service import clock
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.double import Double
from grapevine_agent.service.numbering import OwnNumbers
from grapevine_agent.service.sealer import Sealer
from grapevine_agent.service.turns import Turns
from grapevine_proto import topics
from grapevine_proto.codec import Received, open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.messages import ModelRequest, ModelUpdate, ReleasedModel
from grapevine_proto.parts import LARGE
from grapevine_proto.quotas import SenderQuota
from grapevine_proto.topics import ChunkTopic, TaskTopic, Topic


class Hearing:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        core: AgentCore,
        turns: Turns,
        beside: Beside,
        sealer: Sealer,
        numbers: OwnNumbers,
        double: Double,
        max_bytes: int,
        hear_piece: Callable[[ChunkTopic, bytes | memoryview], None],
        tell: Callable[[Rejected], None],
        has_several: bool = False,
    ) -> None:
        self._core = core
        self._turns = turns
        self._beside = beside
        self._sealer = sealer
        self._numbers = numbers
        self._double = double
        self._max_bytes = max_bytes
        self._hear_piece = hear_piece
        self._tell = tell
        self._has_several = has_several  # brokers
        self._quota = SenderQuota()

    async def hear(self, root: str, name: str, payload: bytes | memoryview, *, retained: bool, broker: int = 0) -> None:
        """Take what a broker brought on a topic. Anything that is wrong with it is counted, and changes nothing."""
        sender = ""
        try:
            if (chunk := topics.parse_chunk(root, name)) is not None:
                sender = topics.writer_of(chunk)
                self._hear_piece(chunk, payload)
                return
            topic = topics.parse(root, name)
            sender = topics.writer_of(topic)
            if not payload:
                await self._turns.take(lambda: self._core.erased(topic, clock.now(), broker))
                raise WireError("empty", name)
            async with self._turns.alone():
                if not self._is_worth_reading(topic, payload, broker):
                    return
            received = await self._opened(payload, topic, retained=retained)
            if received.message.sender == self._core.settings.peer:
                self._sealer.heard(received.message)
                self._numbers.heard(received.message, topic.below_root())
                self._double.heard(received.message, clock.now().monotonic_s)
            await self._turns.take(
                lambda: self._core.receive(received, clock.now(), broker),
                num_bytes=lambda: max(len(payload), self._num_bytes_about(received)),
            )
        except WireError as error:
            is_copy = self._has_several and error.reason in ("replayed", "stale")  # it came by another broker as well
            self.reject(WireError("heard-twice", str(error)) if is_copy else error, sender)

    def reject(self, error: WireError, sender: str) -> None:
        """Something was dropped."""
        self._tell(rejection(error, sender))

    def _is_worth_reading(self, topic: Topic, payload: bytes | memoryview, broker: int) -> bool:
        """Raises `WireError` where its sender, or all strangers, have used up what they may cost."""
        now = clock.now()
        held = self._core.held(topic, broker)
        if held is not None and len(held.envelope) == len(payload) and held.envelope == payload:
            self._core.heard_again(topic, broker)
            return False
        self._quota.charge(topics.writer_of(topic), len(payload), now.monotonic_s)
        return self._core.is_worth_reading(topic, len(payload), now)

    async def _opened(self, payload: bytes | memoryview, topic: Topic, *, retained: bool) -> Received:
        opened = partial(open_envelope, payload, topic, retained=retained, max_bytes=self._max_bytes)
        if LARGE <= len(payload) <= self._max_bytes:
            return await self._beside.run(opened)
        return opened()

    def _num_bytes_about(self, received: Received) -> int:
        """What is worked on, however few bytes say it: a model that is in them, that they ask for, or that they end."""
        tasks, message, topic = self._core.tasks, received.message, received.topic
        match message.body:
            case ModelUpdate(task=task) | ModelRequest(task=task):
                return tasks.model_bytes(task)
            case ReleasedModel(task=task):
                return self._core.models.bytes_expected(message.sender, task, clock.now())
        return tasks.model_bytes(topic.task) if isinstance(topic, TaskTopic) else 0  # a server's model, or a record
