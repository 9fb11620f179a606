"""Showing this device in Home Assistant: the shell around `announcing` and `commands`.

    figures, every LOOK_S ─▶ announcer of each broker ─▶ publish, retained
    <prefix>/status, our own description ─▶ announcer
    commands ─▶ read, counted or refused ─▶ the governor, or the core: leave a task

It goes by the agent's own connections, at the brokers that the owner configured: one that was found is told nothing,
and nothing from there is a command. What is said lies outside the agents' topic root, unsigned, as Home Assistant
wants it; what is lost with a connection is said again at the next one. The will of the connection is the agent's signed
state already, so an agent that ends without a goodbye is noticed by its silence (`expire_after`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final

from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_agent.core.settings import SleepPlan
from grapevine_agent.net.failures import ConnectionLostError
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachment, Attachments
from grapevine_agent.service.figures import Figures
from grapevine_agent.service.governing import Governing
from grapevine_agent.service.homeassistant.announcing import Announcer, Say
from grapevine_agent.service.homeassistant.commands import Commands, Leave, Pause
from grapevine_agent.service.homeassistant.components import ONLINE, Shape, Topics
from grapevine_proto import distribution
from grapevine_proto.errors import BrokerError

if TYPE_CHECKING:
    from grapevine_agent.service.shell import AgentService

logger = logging.getLogger(__name__)

LOOK_S: Final = 10.0  # between two looks at the figures
LEAST_S: Final = 1.0  # the same, whatever wakes us: a look and a description cost a small device some milliseconds
REFRESH_S: Final = 300.0
SILENCES: Final = 3  # refreshes that may be missed
SPREAD_S: Final = 3.0  # of a household's devices, after Home Assistant's start
LONGEST_STATUS: Final = 16  # bytes


class HomeAssistant:
    """See the module's docstring. `run` is its one task.

    Args:
        config: What the owner wrote.
        peer: Our own id.
        version: Of this software.
        sleep: When this device is connected; None: always.
        look: The figures as they are now.
        leave: Leaves a task, by its id.
        governor: What pauses.
    """

    def __init__(
        self,
        *,
        config: HomeAssistantConfig,
        peer: str,
        version: str,
        sleep: SleepPlan | None,
        look: Callable[[], Awaitable[Figures]],
        leave: Callable[[str], Awaitable[None]],
        governor: Governing,
    ) -> None:
        self.topics = Topics(prefix=config.prefix, root=config.root, peer=peer)
        self.counts: Counter[str] = Counter()  # messages said, commands taken, and what was refused by its reason
        self.trouble = ""
        self._config = config
        self._version = version
        self._refresh_s = max(REFRESH_S, config.every_s)
        longest_s = max(SILENCES * self._refresh_s, 2 * sleep.every_s + self._refresh_s if sleep else 0.0)
        self._shape = Shape(commands=config.commands, expire_after_s=round(longest_s))
        self._look = look
        self._leave = leave
        self._governor = governor
        self._commands = Commands(self.topics)
        self._announcers: dict[int, Announcer] = {}
        self._figures: Figures | None = None
        self._wake = asyncio.Event()
        self._told: set[str] = set()  # what the log has a line about

    @property
    def filters(self) -> list[tuple[str, int]]:
        """What is subscribed to, with its QoS."""
        commands = [(f"{self.topics.commands}/#", 1)] if self._config.commands else []
        return [(self.topics.config, 0), (self._config.status, 0), *commands]

    def takes(self, topic: str) -> bool:
        """Whether a message on this topic is for this."""
        return topic in (self.topics.config, self._config.status) or topic.startswith(f"{self.topics.commands}/")

    # --- what the connections tell --------------------------------------------------------------------

    def connected(self, number: int, refused: Collection[str] = ()) -> None:
        """A broker that the owner configured has us, and refuses these filters."""
        self.trouble = ""
        if ours := [each for each, _ in self.filters if each in refused]:
            self._failed(BrokerError(f"the broker refuses {', '.join(ours)} to this agent: check its access rules"))
        self._at(number).connected(clock.now().monotonic_s)
        self._wake.set()

    def lost(self, number: int) -> None:
        """A broker has us no more."""
        self._at(number).lost()

    async def hear(self, number: int, topic: str, payload: bytes | memoryview, *, retained: bool) -> None:
        """Take a message from a broker that the owner configured; anything that is wrong with it is counted."""
        now_s = clock.now().monotonic_s
        if topic == self.topics.config:
            # What is not retained is what we have just said.
            if retained and self._at(number).retained(payload, now_s):
                self._wake.set()
        elif topic == self._config.status:
            is_start = len(payload) <= LONGEST_STATUS and bytes(payload) == ONLINE.encode()
            if is_start and self._at(number).started(now_s, random.uniform(0.0, SPREAD_S)):
                self._wake.set()
        elif self._config.commands:
            command = self._commands.read(topic, payload, retained=retained, now_s=now_s)
            if isinstance(command, str):
                self._refuse(command, topic)
            else:
                try:
                    if await self._obey(command):
                        self._wake.set()
                except Exception:  # a command fails alone
                    self.counts["command-failed"] += 1
                    logger.exception("a command from Home Assistant failed")

    async def _obey(self, command: Pause | Leave) -> bool:
        """Whether there was something to obey."""
        match command:
            case Pause(wanted=wanted):
                if wanted:
                    await self._governor.pause()
                else:
                    await self._governor.resume(keeps_single=True)
                logger.info("learning was %s by Home Assistant", "paused" if wanted else "resumed")
            case Leave(key=key):
                tasks = (await self._look()).tasks
                task = next((each for each in tasks if each.key == key and each.role == "member"), None)
                if task is None:
                    self._refuse("command-unknown", self.topics.leave(key))
                    return False
                await self._leave(task.id)
                logger.info("left %s by Home Assistant", task.name)
        self.counts["commands"] += 1
        return True

    def _refuse(self, reason: str, topic: str) -> None:
        self.counts[reason] += 1
        logger.debug("dropped: %s on %s", reason, topic)
        if reason == "command-retained":
            self._tell(
                "a command for this device is retained on %s, and refused: publish it without retain, and an empty "
                "retained message in its place",
                topic,
            )

    # --- saying ---------------------------------------------------------------------------------------

    async def run(self, brokers: Attachments) -> None:
        """Subscribe, then say what has changed, until cancelled. A transport subscribes again by itself."""
        try:
            await brokers.subscribe(*self.filters)
        except BrokerError as error:
            self._failed(error)
        while True:
            self._wake.clear()
            try:
                await self.say(brokers)
            except Exception:  # the agent goes on, whatever it is shown as
                logger.exception("what Home Assistant is told failed; it is tried again")
            await asyncio.sleep(LEAST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()

    async def say(self, brokers: Attachments) -> None:
        """Say what is due, at each broker."""
        configured = [each for each in brokers if each.is_connected and not each.is_found]
        if configured:
            self._figures = figures = await self._look()
            await asyncio.gather(*(self._say_at(each, figures) for each in configured))

    async def goodbye(self, brokers: Attachments, within_s: float) -> None:
        """Say that we leave, if there is anybody to say it to, in so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                last = [
                    self._publish(each, self._at(each.number).goodbye())
                    for each in brokers
                    if each.is_connected and not each.is_found
                ]
                await asyncio.gather(*last)

    async def _say_at(self, broker: Attachment, figures: Figures) -> None:
        await self._publish(broker, self._at(broker.number).due(figures, clock.now().monotonic_s))

    async def _publish(self, broker: Attachment, messages: list[Say]) -> None:
        for each in messages:
            if broker.is_found:
                return  # it has changed under us
            try:
                await broker.transport.publish(each.topic, each.payload, qos=each.qos, retain=True)
                self.counts["said"] += 1
            except ConnectionLostError:
                return  # all of it is said again at the next connection
            except BrokerError as error:
                self._failed(error)

    def _failed(self, error: BrokerError) -> None:
        self.trouble = str(error)
        self._tell("Home Assistant may not see this device: %s", error)

    def _tell(self, text: str, *values: object) -> None:
        """A line of the log, once."""
        if text not in self._told:
            self._told.add(text)
            logger.warning(text, *values)

    def _wait_s(self) -> float:
        now_s = clock.now().monotonic_s
        begins = [each.begins_s - now_s for each in self._announcers.values() if each.begins_s > now_s]
        return min(LOOK_S, *begins) if begins else LOOK_S

    def _at(self, number: int) -> Announcer:
        if number not in self._announcers:
            self._announcers[number] = Announcer(
                topics=self.topics,
                shape=self._shape,
                version=self._version,
                every_s=self._config.every_s,
                refresh_s=self._refresh_s,
            )
        return self._announcers[number]

    def status(self) -> dict[str, object]:
        """For `grapevine status`."""
        return {"topic": self.topics.config, "counts": dict(self.counts), "trouble": self.trouble}


def home_assistant_of(service: AgentService) -> HomeAssistant | None:
    """What shows a service in Home Assistant; None where its owner does not ask for it, or only a command runs."""
    config, settings = service.config.homeassistant, service.core.settings
    if not config.enabled or settings.role == "observer":
        return None

    async def leave(task: str) -> None:
        await service.turns.take(
            lambda: service.core.set_consent(task, False, clock.now()),
            num_bytes=service.core.tasks.largest_model_bytes,  # an earlier version of it may end
        )

    return HomeAssistant(
        config=config,
        peer=settings.peer,
        version=distribution.version(),
        sleep=settings.sleep,
        look=lambda: service.turns.look(service.figures),
        leave=leave,
        governor=service.governor,
    )
