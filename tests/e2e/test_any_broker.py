"""A task finds a learner that comes later, whatever the broker."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.conftest import _no_mosquitto
from tests.e2e.household import household, wait_for
from tests.e2e.other_brokers import NotHereError, aedes, install_aedes, rabbitmq

from grapevine_broker import start_broker

BROKERS = [
    "embedded",
    pytest.param("mosquitto", marks=[pytest.mark.mosquitto, _no_mosquitto]),
    "rabbitmq",
    "aedes",
]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The name and the URL of a running broker."""
    name: str = request.param
    with ExitStack() as stack:
        try:
            if name == "rabbitmq":
                url = stack.enter_context(rabbitmq())
            elif name == "aedes":
                url = stack.enter_context(aedes(install_aedes(tmp_path_factory.mktemp("aedes"))))
            else:
                url = stack.enter_context(start_broker(name)).url
        except NotHereError as error:
            pytest.skip(str(error))
        yield name, url


def test_a_learner_that_comes_later_hears_of_the_task_and_joins(broker: tuple[str, str], tmp_path: Path) -> None:
    name, url = broker
    with household(tmp_path, url, f"test/{secrets.token_hex(4)}") as home:
        engineer, *reviewers = (home.add(each) for each in ("engineer", "ada", "grace"))
        for each in (engineer, *reviewers):
            each.start()
        task = home.publish(engineer, home.built_task("Late"))
        home.approve(task, *reviewers)
        learner = home.add("learner", digits=0, consent="auto", trusted=reviewers)
        learner.start()
        wait_for(lambda: learner.task(task).get("age", 0) > 0, within_s=120, why=f"the learner trains: {learner.log()}")
        gives = wait_for(lambda: (learner.status() or {}).get("broker_gives"))
        assert gives is not None
        assert gives["wildcard"] == (name != "rabbitmq")
        told = re.sub(r"\s+", " ", learner.ask("status").stdout)
        assert ("RabbitMQ is known for it" in told) == (name == "rabbitmq")
        assert bool(json.loads(learner.ask("status", "--json").stdout)["broker_cannot"]) == (name == "rabbitmq")
