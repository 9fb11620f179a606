"""Being at brokers: those that the owner configured, and those that are found while the service runs.

attend   ─▶ a task for each attachment: its connection, what arrives, what goes out
found    ─▶ an attachment more, with connect = "all"; else one more to try behind the configured ones
withdrawn ─▶ its attachment ends, and the broker sends our will
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.attachment import Attachment, Attachments, MakeTransport


class Attending:
    """See the module's docstring.

    Args:
        attachments: Those that there are.
        attach: Makes a connection to a broker that was found; None: it is tried behind the others.
        make: Makes an attachment with this number.
        read: Reads what arrives, until cancelled.
        left: Has the core hear that this one will not come again.
        below: Filters of ours begin so.
        state: The topic that our own state stands on.
    """

    def __init__(
        self,
        *,
        attachments: Attachments,
        attach: Callable[[BrokerUrl], MakeTransport] | None,
        make: Callable[[int, MakeTransport], Attachment],
        read: Callable[[Attachment], Coroutine[None, None, None]],
        left: Callable[[int], Awaitable[None]],
        below: str,
        state: str,
    ) -> None:
        self._attachments = attachments
        self._num_attached = len(list(attachments))  # ever
        self._attach = attach
        self._make = make
        self._read = read
        self._left = left
        self._below = below
        self._state = state
        self._attended: dict[int, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None  # None: not begun, or over

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Be at all of them."""
        self._group = group
        for attachment in self._attachments:
            self._begin(attachment, group)

    def no_more(self) -> None:
        """We are about to leave: what is found from here on is not used."""
        self._group = None

    def end(self) -> None:
        """Be nowhere any more."""
        for task in self._attended.values():
            task.cancel()

    def met(self) -> frozenset[BrokerUrl]:
        """The brokers that have us."""
        connected = (each.transport.connected_to for each in self._attachments)
        return frozenset(url for url in connected if url is not None)

    async def use_found(self, found: Sequence[BrokerUrl]) -> None:
        """Connect to these, beside those that the owner configured, and to no others."""
        if self._group is None:
            return
        if self._attach is None:
            next(iter(self._attachments)).transport.also_try(found)
            return
        attached = {each.transport.brokers[0]: each for each in self._attachments if each.transport.brokers[0].is_found}
        for url, attachment in attached.items():
            if url not in found:
                await self._detach(attachment)
        for url in found:
            if url not in attached:
                await self._attach_to(self._attach(url))

    def _begin(self, attachment: Attachment, group: asyncio.TaskGroup) -> None:
        self._attended[attachment.number] = group.create_task(self._attend(attachment), name="broker")

    async def _attend(self, attachment: Attachment) -> None:
        """Be at one broker, until cancelled; then the broker sends our will."""
        async with asyncio.TaskGroup() as group:
            group.create_task(attachment.transport.run(), name="connection")
            group.create_task(self._read(attachment), name="incoming")
            group.create_task(attachment.sending.run(), name="outgoing")

    async def _attach_to(self, transport: MakeTransport) -> None:
        attachment = self._make(self._num_attached, transport)
        self._num_attached += 1
        await self._attachments.add(attachment, below=self._below, state=self._state)
        if self._group is not None:
            self._begin(attachment, self._group)

    async def _detach(self, attachment: Attachment) -> None:
        self._attachments.remove(attachment)
        attended = self._attended.pop(attachment.number)
        attended.cancel()
        await asyncio.wait([attended])
        await self._left(attachment.number)
