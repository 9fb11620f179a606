"""What comes twice, late and in another order, as a network of brokers may bring it: agents learn all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.e2e.conftest import Connect, SharedBroker
from tests.e2e.faulty_line import Faults, FaultyLine, faulty_line
from tests.e2e.learning_here import Crowd, crowd, rejected, wide_digits

from grapevine_agent.net.events import Arrived
from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.overlay.here import until

pytestmark = pytest.mark.timeout(180)

FAULTS = Faults(repeat=0.2, again=0.2, hold=0.3)
NUM_TOPICS, NUM_EACH = 8, 40


def through(line: FaultyLine, url: str) -> str:
    """The same broker, reached over the line."""
    return url.replace(f":{BrokerUrl.parse(url).port}", f":{line.port}")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_the_line_loses_nothing_and_each_topic_keeps_its_order_but_for_what_comes_twice(
    broker: SharedBroker, connect: Connect, version: str
) -> None:
    if version == "5" and "version=3.1.1" in broker.url:
        pytest.skip("the embedded broker speaks 3.1.1 alone")
    with faulty_line(BrokerUrl.parse(broker.url).port, up=FAULTS, down=FAULTS) as line:
        url = f"mqtt://127.0.0.1:{line.port}?version={version}"
        hears = await connect(url, subscribe=(f"{broker.root}/#",))
        says = await connect(url)
        every = [(f"{broker.root}/{k}", str(n).encode()) for n in range(NUM_EACH) for k in range(NUM_TOPICS)]
        async with asyncio.timeout(20.0):
            await asyncio.gather(*(says.transport.publish(topic, payload) for topic, payload in every))
        heard: Counter[tuple[str, bytes]] = Counter()  # in the order of their first coming
        while len(heard) < len(every):
            arrived = await hears.next(Arrived)
            heard[arrived.topic, bytes(arrived.payload)] += 1
        assert set(heard) == set(every)
        for k in range(NUM_TOPICS):
            firsts = [int(payload) for topic, payload in heard if topic == f"{broker.root}/{k}"]
            assert firsts == sorted(firsts)
        assert [topic for topic, _ in heard] != [topic for topic, _ in every]
        assert heard.total() > 1.5 * len(every)
        assert line.versions == {5 if version == "5" else 4}
        for done in (line.up, line.down):
            assert min(done[what] for what in ("repeated", "again", "overtook")) > 20
        # Nobody was confused by acknowledgements: both are where they were.
        await says.transport.publish(f"{broker.root}/last", b"")
        await hears.arrival(f"{broker.root}/last")


def learned(town: Crowd, *, accuracy: float) -> bool:
    """Whether both know so much, and have merged; all the while each counts on the other."""
    assert town.counted_on() == [1, 1]
    return min(town.metrics()) > accuracy and all(each.merging.num_merged > 8 for each in town.learning())


def least_done(line: FaultyLine) -> int:
    """How often the line has done what it has done least often, either way."""
    return min(done[what] for done in (line.up, line.down) for what in ("repeated", "again", "overtook"))


@pytest.mark.parametrize("hidden", [64, 2_000], ids=["one-packet", "chunks"])
async def test_agents_learn_over_a_line_that_repeats_and_reorders(
    broker: SharedBroker, tmp_path: Path, hidden: int
) -> None:
    # By a strategy that merges each update by itself: what is taken twice is merged twice.
    built = wide_digits(tmp_path / "digits", hidden=hidden, strategy="age-weighted")
    with faulty_line(BrokerUrl.parse(broker.url).port, up=FAULTS, down=FAULTS) as line:
        async with crowd(tmp_path, through(line, broker.url), broker.root, built) as town:
            # More than their own four classes, and over a line that has done enough to them.
            await until(lambda: learned(town, accuracy=0.45) and least_done(line) > 5)
            one, other = town.learning()
            for learner, sender, service in ((one, other, town.learners[0]), (other, one, town.learners[1])):
                assert learner.merging.num_merged <= sender.num_sent
                found = rejected(service)
                assert found["replayed"] > 0
                # Chunks that come once more when a transfer is over; what was sent before its receiver had joined; and
                # what a newer update of its sender has overtaken.
                assert set(found) <= {"replayed", "not-asked", "not-joined", "no-room", "old-update"}
            apart = [each.carrying.status()["fetched_bytes"] for each in town.learners]
            assert [num_bytes > 8 * 4 * 75 * hidden for num_bytes in apart] == [hidden > 64] * 2  # type: ignore[operator]

            # Of records the newest counts, whatever came in between.
            for _ in range(3):
                town.revoke()
                town.approve()
            town.revoke()
            await until(lambda: town.standings() == ["waiting", "waiting"], within_s=20.0)
            town.approve()
            await until(lambda: town.standings() == ["approved", "approved"], within_s=20.0)
