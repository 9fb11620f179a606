"""The agent's connection to MQTT: it keeps one of several brokers connected, for ever, and tells what happens.

Theory of operation.

    run():   for each broker, in the owner's order:
                 connect ──fails──> Trying, next broker; after the last, back off 1 … 60 s with jitter
                 subscribe to all remembered filters
                 Connected ── Arrived … ── Disconnected ──> from the first broker again
                         └── filters whose turn comes: Listening …

Told to `rest`, it ends the connection with a DISCONNECT and makes none until it is to `resume`.

Brokers that were found stand behind the owner's, come and go while it runs (`also_try`), and are sent no user name,
no password and no certificate.

Sessions are clean and each connection starts afresh: the broker keeps nothing for us, and we send
nothing again on our own. What must survive waits in the `Outbox`.

MQTT 5 or 3.1.1? With `auto`, version 5 is tried first; a broker that refuses it, closes, or says
nothing for 5 s is asked again in 3.1.1, and what worked is tried first the next time. A URL that
names its version is taken at its word. TLS is decided by the URL alone.

A broker of MQTT 5 that retains nothing says so, and ends the connection over whatever is to be retained. It is given
the same, will included, without that: whoever is there hears it, and whoever comes later asks (decision 56).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from grapevine_agent.net.connection import MAX_RECEIVED_BYTES, Connection, Login, packet_bytes
from grapevine_agent.net.events import Arrived, Connected, Disconnected, Event, Trying, Will
from grapevine_agent.net.failures import ConnectionLostError, RefusedError, RetainedWillError, WrongVersionError
from grapevine_agent.net.filters import check_filter
from grapevine_agent.net.in_turn import InTurn
from grapevine_agent.net.inbound import Inbound
from grapevine_agent.net.packet_limit import PacketLimit
from grapevine_agent.net.probing import what_answers
from grapevine_agent.net.tls import TlsOptions, tls_context
from grapevine_agent.net.unanswered import ANSWER_S
from grapevine_agent.net.urls import BrokerUrl, Version
from grapevine_proto import topics
from grapevine_proto.errors import BrokerError, ConfigError
from grapevine_proto.parts import Payload

_PROBED_FOR_S = 300.0  # what answered on a port that is none of a broker is not asked again for so long
_STABLE_S = 10.0  # a connection that lasted as long starts the backoff anew


def backoff_delay_s(attempt: int, limits_s: tuple[float, float], rng: random.Random) -> float:
    """Return how long to wait before attempt `attempt` + 1: doubling within limits, half of it random.

    Without jitter, all clients of a broker that comes back would come back in the same instant.
    """
    shortest_s, longest_s = limits_s
    whole_s = min(longest_s, shortest_s * 2.0 ** min(attempt, 30))
    return whole_s * rng.uniform(0.5, 1.0)


def _name_of(url: BrokerUrl) -> str:
    """Of a broker that was found: two addresses of one broker are two clients, who do not throw each other out."""
    return hashlib.sha256(str(url).encode()).hexdigest()[:8]


class Transport:
    """See the module's docstring. Create and use it in one event loop; `run()` is its one task.

    Args:
        brokers: Tried in this order. At least one; those that were found come by `also_try`.
        client_id: Ours on every broker. Two clients with one id throw each other out for ever.
        keepalive_s: A silent connection is given up after about this long.
        version: What to speak where the URL does not say: `auto`, `5` or `3.1.1`.
        tls: Files for `mqtts://` and `wss://`.
        will: Called before every attempt to connect, because a will is signed for one session.
        max_packet_bytes: Our own limit on a packet; a v5 broker may announce a smaller one, and from another one a
            smaller one is learnt (`packet_limit.py`).
        username: For brokers whose URL names no user.
        password: The same.
        backoff_s: Shortest and longest wait between two rounds of attempts.
        connect_s: How long TCP and TLS may take.
        connack_s: How long the broker may then take to answer, in each version of MQTT.
        answer_s: How long it may take to answer later packets, beside what their bytes take (`unanswered.py`).
        max_waiting: Messages that may wait to be read; further ones are dropped and counted.
        max_waiting_bytes: The same in bytes.
        found_below: Of filters, brokers that were found are told those that begin so, and of no others.
        rng: Source of the jitter.

    Raises:
        ConfigError: No brokers, or TLS files that cannot be used or would be used by no URL.
    """

    def __init__(
        self,
        brokers: Sequence[BrokerUrl],
        *,
        client_id: str,
        keepalive_s: int = 30,
        version: Version = "auto",
        tls: TlsOptions | None = None,
        will: Callable[[], Will | None] = lambda: None,
        max_packet_bytes: int = 1_000_000,
        username: str = "",
        password: str = "",
        backoff_s: tuple[float, float] = (1.0, 60.0),
        connect_s: float = 10.0,
        connack_s: float = 5.0,
        answer_s: float = ANSWER_S,
        max_waiting: int = 16_384,
        max_waiting_bytes: int = 32_000_000,
        found_below: str = "",
        rng: random.Random | None = None,
    ) -> None:
        if not brokers:
            msg = 'no broker is configured: write for example brokers = ["mqtt://hub.local"]'
            raise ConfigError(msg)
        if tls is not None and not any(url.has_tls for url in brokers):
            msg = f"tls files are given but {brokers[0]} is not encrypted: write mqtts:// or wss://"
            raise ConfigError(msg)
        if any(url.has_tls for url in brokers):
            tls_context(tls or TlsOptions())  # a wrong file is the owner's to mend, now
        self._brokers = tuple(brokers)
        self._configured = tuple(url for url in self._brokers if not url.is_found)
        self._more = asyncio.Event()  # there are other brokers to try
        self._client_id = client_id
        self._keepalive_s = keepalive_s
        self._version = version
        self._tls = tls or TlsOptions()
        self._will = will
        self._own_limit = max_packet_bytes
        self._username = username
        self._password = password
        self._backoff_s = backoff_s
        self._connect_s = connect_s
        self._connack_s = connack_s
        self._answer_s = answer_s
        self._found_below = found_below
        self._rng = rng or random.Random()
        self._spoke: dict[BrokerUrl, str] = {}  # which version worked
        self._no_retaining: set[BrokerUrl] = set()
        self._probed: dict[BrokerUrl, tuple[float, str]] = {}  # until when what was found is believed
        self._filters: dict[str, int] = {}
        self._in_turn = InTurn(clock=asyncio.get_running_loop().time)
        self.is_attempting = False  # with a will that was made for it
        self._connection: Connection | None = None  # only while connected and subscribed
        self._announced = max_packet_bytes  # by the broker that we are connected to, or were last
        self._limits = {url: PacketLimit(own_bytes=max_packet_bytes) for url in self._brokers}
        self._limit = self._limits[self._brokers[0]]  # of that broker
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._resting, self._resumed = asyncio.Event(), asyncio.Event()  # one of them is set
        self._resumed.set()
        self._quiet = asyncio.Event()  # it rests, and the connection has ended
        self._finished = asyncio.Event()
        self._finished.set()
        self._inbound = Inbound(self._loop, max_messages=max_waiting, max_bytes=max_waiting_bytes)

    @property
    def num_dropped(self) -> int:
        """Messages that arrived faster than they were read, and were dropped."""
        return self._inbound.num_dropped

    @property
    def brokers(self) -> tuple[BrokerUrl, ...]:
        """Those that are tried, in this order."""
        return self._brokers

    @property
    def connected_to(self) -> BrokerUrl | None:
        """The broker that we are connected to."""
        return self._connection.url if self._connection else None

    @property
    def max_packet_bytes(self) -> int:
        """The largest packet that `publish` takes now."""
        return min(self._announced, self._limit.bytes(self._loop.time()))

    def also_try(self, found: Sequence[BrokerUrl]) -> None:
        """Try these as well, behind those that the owner configured, and no others that were found before.

        One that has us keeps us until the connection ends. A wait between two rounds of attempts is over.
        """
        brokers = (*self._configured, *found)
        if not brokers or brokers == self._brokers:
            return
        has_more = not set(brokers) <= set(self._brokers)
        self._brokers = brokers
        connected = self.connected_to
        for url in set(self._limits) - {*brokers, connected}:
            del self._limits[url]
            self._spoke.pop(url, None)
            self._no_retaining.discard(url)
            self._probed.pop(url, None)
        for url in brokers:
            self._limits.setdefault(url, PacketLimit(own_bytes=self._own_limit))
        if has_more:
            self._more.set()

    async def events(self) -> AsyncIterator[Event]:
        """Yield events in order, until `run()` has ended. One consumer."""
        while (event := await self._inbound.get()) is not None:
            yield event

    async def subscribe(self, *filters: tuple[str, int]) -> None:
        """Subscribe to (filter, QoS) pairs, now if connected and at every later connect.

        To subscribe again to what is subscribed has the broker send its retained messages again.

        Raises:
            BrokerError: The broker refuses a filter, or the connection was lost, or cut for want of an answer. They
                stay remembered.
            ValueError: A filter or QoS is none.
        """
        for each, qos in filters:
            check_filter(each, qos)
        self._filters.update(filters)
        if self._connection is not None and (fit := self._fit_for(self._connection, filters)):
            refused = await self._connection.subscribe(fit)
            if refused:
                msg = f"{self._connection.url if self._connection else 'the broker'} refuses {', '.join(refused)}"
                raise BrokerError(msg + ": check its access rules for our user name")

    def subscribe_in_turn(self, *filters: str) -> None:
        """Subscribe at QoS 0 to filters that bring much, one after the other, now and at every later connect.

        `Listening` tells when what is retained for each has come. Once more has the broker send it again.

        Raises:
            ValueError: A filter is none.
        """
        for each in filters:
            check_filter(each, 0)
            self._in_turn.add(each)

    async def unsubscribe(self, *filters: str) -> None:
        """Forget filters, and end their subscriptions if connected; BrokerError if the connection was lost."""
        for each in filters:
            self._filters.pop(each, None)
            self._in_turn.remove(each)
        if self._connection is not None and filters:
            await self._connection.unsubscribe(filters)

    async def publish(self, topic: str, payload: Payload, *, qos: int = 1, retain: bool = False) -> None:
        """Publish; return when the broker has acknowledged (QoS 1) or the packet was sent (QoS 0).

        Messages of one QoS leave in the order of the calls, as many at once as the broker takes unacknowledged.

        Raises:
            ConnectionLostError: Not connected, or lost before that: it may have arrived all the same.
            BrokerError: Too large, or the broker refuses it.
        """
        size, limit = packet_bytes(topic, payload), self.max_packet_bytes
        if size > limit:  # paho would send it for ever, and nothing behind it
            msg = (
                f"a packet of {size} bytes on {topic} exceeds {limit}: "
                "raise mqtt.max_packet_bytes here and the broker's own limit"
            )
            raise BrokerError(msg)
        if self._connection is None:
            msg = f"not connected to {' or '.join(map(str, self._brokers))}: {topic} was not published"
            raise ConnectionLostError(msg)
        limit_of_broker = self._limit
        await self._connection.publish(topic, payload, qos=qos, retain=retain)
        if qos:
            limit_of_broker.acknowledged(size)

    async def rest(self) -> None:
        """End the connection, with a DISCONNECT, and make none until `resume`. Subscriptions stay."""
        self._resumed.clear()
        self._resting.set()
        if not self._finished.is_set():
            await self._quiet.wait()

    def resume(self) -> None:
        """Connect again."""
        self._resting.clear()
        self._resumed.set()

    async def disconnect(self) -> None:
        """End `run()`: with a DISCONNECT, so that the broker does not send our will."""
        self._stopping.set()
        await self._finished.wait()

    async def run(self) -> None:
        """Keep connected until `disconnect()`. Cancelling it instead lets the broker send our will."""
        self._finished.clear()
        stop = asyncio.create_task(self._stopping.wait(), name="transport stop")
        try:
            while not self._stopping.is_set():
                if not self._resting.is_set():
                    await self._connect_until(stop)
                if self._resting.is_set():
                    await self._pause_until(stop)
        finally:
            stop.cancel()
            self._inbound.close()
            self._quiet.set()
            self._finished.set()

    async def _connect_until(self, stop: asyncio.Task[bool]) -> None:
        """Keep connected until it is to stop, or to rest."""
        work = asyncio.create_task(self._keep_connected(), name=f"transport of {self._client_id}")
        rest = asyncio.create_task(self._resting.wait(), name="transport rest")
        try:
            await asyncio.wait([work, stop, rest], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            rest.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work  # an error in it is a fault of ours: let it be seen

    async def _pause_until(self, stop: asyncio.Task[bool]) -> None:
        """Be quiet until it is to stop, or to connect again."""
        self._quiet.set()
        resume = asyncio.create_task(self._resumed.wait(), name="transport resume")
        try:
            await asyncio.wait([resume, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            resume.cancel()
            self._quiet.clear()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = index = 0
        refusing: set[BrokerUrl] = set()
        while True:
            index = index if index < len(self._brokers) else 0
            url = self._brokers[index]
            try:
                connection = await self._connect(url)
            except (BrokerError, ConfigError) as error:
                if url in self._limits:  # it may have gone meanwhile
                    self._limits[url].not_reached()
                (refusing.add if isinstance(error, RefusedError | ConfigError) else refusing.discard)(url)
                index = (index + 1) % len(self._brokers)
                was_last = index == 0
                delay_s = backoff_delay_s(attempt, self._backoff_s, self._rng) if was_last else 0.0
                attempt += was_last
                self._inbound.put(
                    Trying(
                        url=url,
                        reason=str(error),
                        retry_in_s=delay_s,
                        next_url=self._brokers[index],
                        all_refuse=refusing.issuperset(self._brokers),
                    )
                )
                await self._wait(delay_s)
                continue
            connected_at_s = loop.time()
            self._more.clear()
            await self._stay(connection)
            index = 0
            attempt = 0 if loop.time() - connected_at_s >= _STABLE_S else attempt
            await self._wait(backoff_delay_s(attempt, self._backoff_s, self._rng))
            attempt += 1

    async def _wait(self, seconds: float) -> None:
        """Wait, unless there is another broker to try."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._more.wait()
        self._more.clear()

    async def _connect(self, url: BrokerUrl) -> Connection:
        """Connect in the first version of MQTT that works, and subscribe."""
        wanted = self._version if url.version == "auto" else url.version
        versions = ("5", "3.1.1") if wanted == "auto" else (wanted,)
        if self._spoke.get(url) == versions[-1]:
            versions = versions[::-1]
        for version in versions:
            try:
                connection = await self._open(url, version)
            except BrokerError as error:
                if not isinstance(error, WrongVersionError) or version == versions[-1]:
                    raise await self._explained(url, error) from None
            else:
                self._spoke[url] = version
                self._probed.pop(url, None)
                return connection
        raise AssertionError("the last version raises or returns")

    async def _explained(self, url: BrokerUrl, error: BrokerError) -> BrokerError:
        """The error, with what is on that port if it is no broker of this kind."""
        if isinstance(error, RefusedError):
            return error
        now_s = asyncio.get_running_loop().time()
        until_s, found = self._probed.get(url, (-math.inf, ""))
        if now_s >= until_s:
            found = await what_answers(url)
            self._probed[url] = now_s + (_PROBED_FOR_S if found else 0.0), found
        return RefusedError(f"{error}; {found}") if found else error

    async def _open(self, url: BrokerUrl, version: str) -> Connection:
        try:
            return await self._open_once(url, version)
        except RetainedWillError:
            if url in self._no_retaining:
                raise
        self._no_retaining.add(url)
        return await self._open_once(url, version)

    async def _open_once(self, url: BrokerUrl, version: str) -> Connection:
        is_trusted = not url.is_found
        will = self._will()
        if will is not None and url in self._no_retaining:
            will = replace(will, retain=False)
        login = Login(
            # Of its own: what was found may be a broker that has us already, by another name, and would throw us out.
            client_id=self._client_id if is_trusted else f"{self._client_id}-{_name_of(url)}",
            username=(url.username or self._username) if is_trusted else "",
            password=(url.password if url.username else self._password) if is_trusted else "",
            keepalive_s=self._keepalive_s,
            max_received_bytes=max(MAX_RECEIVED_BYTES, self._own_limit),
            tls=tls_context(self._tls if is_trusted else TlsOptions()) if url.has_tls else None,  # afresh: renewed
            will=will,
        )
        self.is_attempting = True
        connection = Connection(
            url=url, version=version, login=login, on_message=self._arrived, answer_s=self._answer_s
        )
        self._inbound.hold()
        try:
            accepted = await connection.open(connect_s=self._connect_s, connack_s=self._connack_s)
            refused = await self._subscribe_all(connection)
        except BaseException:
            self._inbound.discard()
            await connection.abort()
            raise
        finally:
            self.is_attempting = False
        (self._no_retaining.discard if connection.retains else self._no_retaining.add)(url)
        self._limit = self._limits.setdefault(url, PacketLimit(own_bytes=self._own_limit))
        self._announced = accepted.max_packet_bytes or self._own_limit
        self._limit.taken_in(self._loop.time())
        self._connection = connection
        self._inbound.release(
            Connected(
                url=url,
                version=version,
                max_packet_bytes=self.max_packet_bytes,
                has_learnt_limit=self._limit.is_learnt,
                wanted_packet_bytes=self._own_limit,
                max_in_flight=accepted.max_in_flight,
                shares=accepted.shares and not url.is_found and not any(map(topics.is_shared, refused)),
                refused=refused,
            )
        )
        return connection

    def _fit_for(self, connection: Connection, filters: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """The filters that a broker may know of, and knows: one that was found is told nothing of the owner's sensors.

        What is shared is not asked of a broker that shares nothing: it would be an error, or a topic like any other.
        """
        known = [each for each in filters if connection.shares or not topics.is_shared(each[0])]
        return [each for each in known if not connection.url.is_found or each[0].startswith(self._found_below)]

    async def _subscribe_all(self, connection: Connection) -> tuple[str, ...]:
        """Subscribe to every filter, also to those that are added meanwhile."""
        done: set[str] = set()
        refused: list[str] = []
        while missing := [each for each in self._fit_for(connection, self._filters.items()) if each[0] not in done]:
            refused += await connection.subscribe(missing)
            done.update(each for each, _ in missing)
        return tuple(refused)

    async def _stay(self, connection: Connection) -> None:
        """Wait for the end of a connection, and bring it about when we are told to stop."""
        in_turn = asyncio.create_task(self._listen_in_turn(connection), name="subscriptions in turn")
        try:
            await asyncio.wait([connection.over])
        finally:
            in_turn.cancel()
            self._connection = None
            if connection.end != "lost" and not self._is_wanted_end:
                said = connection.end == "too-large"
                self._limit.closed(connection.largest_lost, self._loop.time(), is_said=said)
            if self._is_wanted_end:
                await connection.close()
            await connection.abort()
            reason = connection.over.result() if connection.over.done() else "given up"
            self._inbound.put(Disconnected(url=connection.url, reason=reason))

    @property
    def _is_wanted_end(self) -> bool:
        return self._stopping.is_set() or self._resting.is_set()

    async def _listen_in_turn(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionLostError):
            await self._in_turn.run(connection, self._inbound.put)

    def _arrived(self, topic: str, payload: bytes | memoryview, retained: bool) -> None:  # in the network thread
        if retained:
            self._in_turn.arrived(topic)
        self._inbound.put(Arrived(topic=topic, payload=payload, retained=retained))
