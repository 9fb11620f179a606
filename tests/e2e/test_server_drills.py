"""A real server is killed, frozen, set wrong and set back, and hostile ones stand beside it: the swarm learns on.

One swarm of real agents for all drills, one after the other. Each begins when the server helps, and ends with everybody
training, no model lost and accuracies where they were (`Drilled.unharmed`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import _no_mosquitto
from tests.e2e.drilled import Drilled, drilled
from tests.e2e.household import wait_for

from grapevine_broker import start_broker

pytestmark = [pytest.mark.timeout(420), pytest.mark.mosquitto, _no_mosquitto]

FLAP_S = 5.0
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def shared_swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drilled]:
    with (
        start_broker("mosquitto") as broker,
        drilled(tmp_path_factory.mktemp("drills"), broker.url, f"test/{secrets.token_hex(6)}") as swarm,
    ):
        yield swarm


@pytest.fixture
def swarm(shared_swarm: Drilled) -> Drilled:
    """The swarm, with a server that helps, as every drill finds it."""
    if shared_swarm.server.status() is None:
        shared_swarm.server.start()
    shared_swarm.wait_for_help()
    return shared_swarm


def test_a_server_that_is_killed_is_missed_by_nobody_and_goes_on_above_its_number(swarm: Drilled) -> None:
    with swarm.unharmed():
        before = swarm.server.task(swarm.task)
        swarm.server.kill()
        swarm.wait_for_server("suspect", "lost")
        swarm.train_on()
        swarm.server.start()
        swarm.wait_for_help()
        wait_for(
            lambda: swarm.server.task(swarm.task)["model_version"] > before["model_version"],
            why="its number goes on above what its members have merged",
        )
        # Ages are mixed as models are, so one may fall; had it begun anew, its age would be nearly 0.
        assert swarm.server.task(swarm.task)["age"] > before["age"] / 2


def test_a_server_that_is_frozen_is_suspected_and_helps_again_when_it_goes_on(swarm: Drilled) -> None:
    with swarm.unharmed():
        swarm.server.freeze()
        try:
            swarm.wait_for_server("lost")
            swarm.train_on()
            assert all(line["shares"].get(swarm.server.peer, 0) < 0.01 for line in swarm.lines())
        finally:
            swarm.server.thaw()
        swarm.wait_for_help()


def test_a_server_that_comes_and_goes_every_five_seconds_makes_nobody_forget(swarm: Drilled) -> None:
    with swarm.unharmed() as before:
        lowest = min(before.accuracies)
        for _ in range(2):
            swarm.server.kill()
            until_s = time.monotonic() + FLAP_S
            lowest = min(lowest, wait_for(lambda until_s=until_s: _lowest_until(swarm, until_s)))  # type: ignore[misc]
            swarm.server.start()
            until_s = time.monotonic() + FLAP_S
            lowest = min(lowest, wait_for(lambda until_s=until_s: _lowest_until(swarm, until_s)))  # type: ignore[misc]
        assert lowest > min(before.accuracies) - 0.1
    swarm.wait_for_help()


def _lowest_until(swarm: Drilled, until_s: float) -> float:
    """The lowest accuracy of all learners until then."""
    lowest = 1.0
    while time.monotonic() < until_s:
        lowest = min(lowest, *swarm.standing().accuracies)
        time.sleep(0.2)
    return lowest


def test_a_servers_clock_may_be_an_hour_ahead_or_an_hour_behind(swarm: Drilled) -> None:
    with swarm.unharmed():
        for ahead_s in (HOUR_S, -HOUR_S, 0.0):
            published = swarm.server.task(swarm.task)["model_version"]
            swarm.server.set_clock(ahead_s)  # while it runs,
            wait_for(lambda published=published: swarm.server.task(swarm.task)["model_version"] > published + 3)  # type: ignore[misc]
            swarm.wait_for_help()
            swarm.server.kill()  # and when it starts
            swarm.server.start()
            swarm.wait_for_help()


def test_a_server_that_is_put_back_from_a_backup_takes_nobody_back(swarm: Drilled) -> None:
    with swarm.unharmed():
        assert swarm.server.stop() == 0
        old = swarm.server.keep_state()
        swarm.server.start()
        swarm.wait_for_help()
        age = swarm.server.task(swarm.task)["age"]
        swarm.train_on(30)
        assert swarm.server.task(swarm.task)["age"] > age + 100
        swarm.server.kill()
        swarm.server.put_back(old)
        swarm.server.start()
        swarm.wait_for_help()
        wait_for(lambda: swarm.server.task(swarm.task)["age"] > age + 100, why="it has caught up")


@pytest.mark.parametrize(("kind", "reason"), [("nan", "non-finite"), ("another-task", "wrong-shape")])
def test_a_model_that_cannot_be_the_tasks_is_counted_and_its_server_named(
    swarm: Drilled, kind: str, reason: str
) -> None:
    with swarm.unharmed():
        before = swarm.rejected()[reason]
        with swarm.serving(swarm.rogue, kind):
            wait_for(lambda: swarm.refused(reason), why="everybody says why")
            wait_for(lambda: swarm.rejected()[reason] > before + 10, why="it goes on saying it")
            swarm.train_on()
            assert swarm.refused(reason)
            assert all(swarm.rogue.peer not in line["shares"] for line in swarm.lines())
            swarm.wait_for_help()
            assert f"{swarm.rogue.peer} refused: {reason}" in swarm.printed_status()


@pytest.mark.parametrize("kind", ["sign-flip", "random"])
def test_of_two_servers_that_disagree_the_one_that_is_far_from_the_members_has_no_voice(
    swarm: Drilled, kind: str
) -> None:
    with swarm.unharmed():
        before = swarm.rejected()["server-far-away"]
        with swarm.serving(swarm.rogue, kind):
            wait_for(lambda: swarm.refused("server-far-away"), why="everybody says why")
            wait_for(lambda: swarm.rejected()["server-far-away"] > before + 10)
            swarm.train_on(10)
            assert all(swarm.rogue.peer not in line["shares"] for line in swarm.lines())
            swarm.wait_for_help()
            assert f"{swarm.rogue.peer} refused: server-far-away" in swarm.printed_status()


def test_a_second_server_that_is_honest_is_refused_by_nobody(swarm: Drilled) -> None:
    with swarm.unharmed(), swarm.serving(swarm.rogue, "honest"):
        wait_for(lambda: all(line["shares"].get(swarm.rogue.peer, 0) > 0.1 for line in swarm.lines()), why="both count")
        assert swarm.refused("")
        swarm.wait_for_help()


def test_who_is_not_authorised_is_no_server_whatever_it_says(swarm: Drilled) -> None:
    with swarm.unharmed():
        before = swarm.rejected()["unauthorised-server"]
        with swarm.serving(swarm.stranger, "random"):
            wait_for(lambda: swarm.rejected()["unauthorised-server"] > before + 10)
            swarm.train_on()
            for line in swarm.lines():
                assert swarm.stranger.peer not in line["shares"]
                assert swarm.stranger.peer not in [each["peer"] for each in line["servers"]]
            assert "unauthorised-server" in swarm.printed_status()


def test_an_advert_from_the_future_is_counted_and_ignored(swarm: Drilled) -> None:
    with swarm.unharmed():
        before = swarm.rejected()["from-the-future"]
        with swarm.serving(swarm.rogue, "future"):
            wait_for(lambda: swarm.rejected()["from-the-future"] > before + 10)
            swarm.wait_for_help()
            assert "from-the-future" in swarm.printed_status()
        wait_for(
            lambda: all(line["shares"].get(swarm.rogue.peer, 0) == 0 for line in swarm.lines()),
            why="what it has said fades, though it is dated a year ahead",
        )
