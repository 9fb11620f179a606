"""Mosquittos that are bridged by the lines of `grapevine broker bridge`: agents at different ones are one overlay."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.e2e.agents import agent, agents, say, status

from grapevine_agent.core import effects as fx
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker.bridge import Bridge
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.overlay.here import until
from grapevine_proto import topics
from grapevine_proto.messages import BlobRequest
from grapevine_proto.topics import InboxTopic, TaskTopic

pytestmark = [pytest.mark.mosquitto]

ROOT = "bridged/v1"
TASK = "cd" * 32


@contextmanager
def bridged(num_outer: int = 1) -> Iterator[list[MosquittoBroker]]:
    """One in the middle, and others that have a bridge to it."""
    with ExitStack() as stack:
        middle = stack.enter_context(MosquittoBroker())
        outer = [stack.enter_context(MosquittoBroker(more_config=bridge_to(middle, f"b{k}"))) for k in range(num_outer)]
        yield [middle, *outer]


def bridge_to(other: MosquittoBroker, name: str) -> str:
    client_id = f"{name}-{secrets.token_hex(4)}"
    return Bridge(name=name, host=other.host, port=other.port, client_id=client_id, root=ROOT).config()


def sees(service: AgentService, other: AgentService) -> bool:
    peer = service.core.members.peers.get(other.identity.peer_id)
    return peer is not None and peer.online and service.core.members.is_member(other.identity.peer_id)


def all_meet(*services: AgentService) -> bool:
    return all(sees(one, other) for one in services for other in services if one is not other)


def reviewed(service: AgentService, reason: str) -> None:
    until_ms = clock.now().wall_ms + 3_600_000
    say(service, service.core.review(TASK, approved=True, reason=reason, valid_until_ms=until_ms))


def knows(service: AgentService, author: AgentService, sequence: int = 0) -> int:
    held = service.core.records.get(TaskTopic(author.identity.peer_id, TASK, "review"))
    return held.message.sequence if held is not None and held.message.sequence > sequence else 0


async def heard(service: AgentService, other: AgentService) -> None:
    """A message from the other one comes."""
    topic = InboxTopic(service.identity.peer_id, other.identity.peer_id)
    seen: list[str] = []
    hear = service.hearing.hear

    async def listen(root: str, name: str, payload: bytes, **more: object) -> None:
        seen.append(name)
        await hear(root, name, payload, **more)  # type: ignore[arg-type]

    service.hearing.hear = listen  # type: ignore[method-assign, assignment]
    body = BlobRequest(task=TASK, digest=secrets.token_hex(32))
    say(other, [fx.Publish(topic=topic, body=body, receiver_session=other.core.members.session_of(topic.receiver))])
    await until(lambda: topics.build(ROOT, topic) in seen)
    service.hearing.hear = hear  # type: ignore[method-assign]


@pytest.mark.parametrize("num_outer", [1, 2])
async def test_agents_at_bridged_brokers_are_one_overlay_and_again_after_a_kill(tmp_path: Path, num_outer: int) -> None:
    with bridged(num_outer) as (middle, *outer):
        urls = [middle.url, *(each.url for each in outer)]
        async with agents(*(agent(tmp_path / f"a{k}", [url], ROOT) for k, url in enumerate(urls))) as each:
            first, last = each[0], each[-1]
            await until(lambda: all_meet(*each))
            reviewed(first, "well")
            await until(lambda: all(knows(one, first) for one in each))
            await heard(last, first)
            await heard(each[1], last if num_outer > 1 else first)
            session = first.core.members.session_of(last.identity.peer_id)
            for killed in (middle, outer[0]):
                killed.kill()
                await asyncio.sleep(0.5)
                before = knows(each[1], first)
                reviewed(first, f"well, again, without {killed.port}")
                killed.start()
                await until(lambda: all_meet(*each))
                await until(lambda: all(knows(one, first, before) for one in each))  # noqa: B023
                await heard(last, first)
                await heard(first, last)
            assert first.core.members.session_of(last.identity.peer_id) >= session
            assert not any(one.double.trouble(clock.now().monotonic_s) for one in each)


async def test_an_agent_at_both_of_two_bridged_brokers_is_there_while_one_of_them_has_it(tmp_path: Path) -> None:
    with bridged() as (middle, outer):
        async with agents(
            agent(tmp_path / "a", [middle.url], ROOT),
            agent(tmp_path / "b", [outer.url], ROOT),
            agent(tmp_path / "g", [middle.url, outer.url], ROOT),
        ) as (ada, bob, both):
            await until(lambda: all_meet(ada, bob, both))
            states: list[str] = []
            kept = both.attachments[1].outbox.keep

            def count(topic: str, payload: bytes, **more: object) -> None:
                states.extend([topic] * topic.endswith("/state"))
                kept(topic, payload, **more)  # type: ignore[arg-type]

            both.attachments[1].outbox.keep = count  # type: ignore[method-assign]
            for number in (0, 1, 0):
                transport = both.attachments[number].transport
                connection = transport._connection
                assert connection is not None
                transport._backoff_s = (2.0, 2.5)
                await connection.abort()  # its will is said at both
                await until(lambda n=number: not both.attachments[n].is_connected)  # type: ignore[misc]
                await asyncio.sleep(1.0)
                await until(lambda: sees(ada, both) and sees(bob, both))
                await until(lambda: both.attachments[0].is_connected and both.attachments[1].is_connected)
                await until(lambda: all_meet(ada, bob, both))
            await asyncio.sleep(2.0)
            num_states = len(states)
            await asyncio.sleep(3.0)
            assert len(states) == num_states  # its own word does not go round
            assert num_states <= 9
            await heard(both, ada)
            await heard(both, bob)
            assert (await status(both))["trouble"] == ""
            assert isinstance(both.attachments[1].outbox, Outbox)


def test_mosquitto_takes_the_lines_of_a_bridge_with_tls() -> None:
    lines = Bridge(name="far", host="127.0.0.1", port=1, client_id="far-1", root=ROOT, has_tls=True).config()
    with MosquittoBroker(more_config=lines) as broker:
        assert broker.wait(1.0) is None
