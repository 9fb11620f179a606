"""Several brokers in a scenario: read strictly, and everybody has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.swarm.simulations import PROTOCOL, scenario_of

from grapevine_lab.simulator.brokers import ONE, BridgePlan, BrokerPlan, announced_by
from grapevine_lab.simulator.packets import OWN_PACKET_BYTES
from grapevine_proto.errors import ConfigError

TWO = "broker=[{ name = 'a' }, { name = 'b' }]"
THREE = "broker=[{ name = 'a' }, { name = 'b', site = 'there', latency_s = 0.5 }, { name = 'c', site = 'there' }]"


def test_without_a_table_there_is_one_broker_and_everybody_is_there(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, PROTOCOL)
    assert scenario.brokers == ONE
    assert scenario.nodes.brokers == ()
    assert scenario.nodes.gateways == ()
    assert scenario.bridges == ()


def test_who_is_at_a_site_is_at_all_its_brokers_and_sites_have_equal_parts(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, PROTOCOL, THREE, "nodes.num=5")
    assert scenario.brokers[1] == BrokerPlan(name="b", site="there", latency_s=0.5)
    assert scenario.nodes.brokers == ((0,), (0,), (0,), (1, 2), (1, 2))


def test_shares_and_lists_say_who_is_where(tmp_path: Path) -> None:
    shares = "nodes.brokers={ a = 2, 'a+b' = 1, b = 1 }"
    scenario = scenario_of(tmp_path, PROTOCOL, TWO, shares, "nodes.gateways=2")
    assert scenario.nodes.brokers == ((0,),) * 4 + ((0, 1),) * 2 + ((1,),) * 2
    assert scenario.nodes.gateways == (4, 5)
    one_by_one = "nodes.brokers=['a', ['b', 'a'], ['b']]"
    scenario = scenario_of(tmp_path, PROTOCOL, TWO, one_by_one, "nodes.num=3", "nodes.gateways=[1]")
    assert scenario.nodes.brokers == ((0,), (1, 0), (1,))
    assert scenario.nodes.gateways == (1,)


def test_a_bridge_names_two_brokers(tmp_path: Path) -> None:
    scenario = scenario_of(tmp_path, PROTOCOL, TWO, "bridge=[{ owner = 'b', to = 'a', topics = ['peer/#'] }]")
    assert scenario.bridges == (BridgePlan(owner=1, to=0, topics=("peer/#",)),)


def test_a_broker_may_have_a_packet_limit_that_it_announces_or_not(tmp_path: Path) -> None:
    brokers = (
        "broker=[{ name = 'a', packet_limit_bytes = 16_384 }, "
        "{ name = 'b', packet_limit_bytes = 2_000_000, packet_limit_announced = false }, { name = 'c' }]"
    )
    read = scenario_of(tmp_path, PROTOCOL, brokers).brokers
    assert [(each.packet_limit_bytes, each.packet_limit_announced) for each in read] == [
        (16_384, True),
        (2_000_000, False),
        (0, True),
    ]
    assert [announced_by(each) for each in read] == [16_384, OWN_PACKET_BYTES, OWN_PACKET_BYTES]


WRONG = [
    (["broker=[{ name = 'a', packet_limit_bytes = 4_095 }]"], "packet_limit_bytes"),
    (["broker=[{ name = 'a', packet_limit_bytes = 4_095 }]"], "from 4096 to 268435460"),
    (["broker=[{ name = 'a', packet_limit_bytes = '16k' }]"], "whole number"),
    (["broker=[{ name = 'a', packet_limit_announced = false }]"], "write packet_limit_bytes = "),
    (["broker=[{ name = 'a', packet_limit_announced = 0 }]"], "must be true or false"),
    (["broker=[{ name = 'a', packet_limit = 9_999 }]"], "packet_limit_bytes"),
    (["nodes.brokers=['a', 'z']"], "no broker 'z'; there are a, b"),
    (["nodes.brokers={ 'a+z' = 1 }"], "no broker 'z'; there are a, b"),
    (["nodes.brokers={ a = 0 }"], "shares above 0"),
    (["nodes.brokers={ 'a+a' = 1 }"], "names a broker twice"),
    (["nodes.brokers=['a', []]"], "leaves node 1 without a broker"),
    (["nodes.brokers=['a', 'b', 'a']"], "has 3 of 8 nodes: every node has a broker"),
    (["nodes.brokers='a'"], "must be shares"),
    (["nodes.gateways=[2]"], "node 2 is at one broker, and a gateway is between two"),
    (["nodes.gateways=1"], "there are 0 nodes at two brokers or more"),
    (["nodes.gateways=[8]"], "numbers below 8"),
    (["broker=[{ name = 'a' }, { name = 'a' }]"], "another broker's already"),
    (["broker=[{ name = 'a+b' }]"], "without '+'"),
    (["broker=[{ nam = 'a' }]"], "name"),
    (["bridge=[{ owner = 'a', to = 'z' }]"], "no broker 'z'"),
    (["bridge=[{ owner = 'a', to = 'a' }]"], "closes a ring"),
    (["bridge=[{ owner = 'a', to = 'b' }, { owner = 'b', to = 'a' }]"], "closes a ring"),
    (["bridge=[{ owner = 'a', to = 'b', topics = ['x/#/y'] }]"], "topics"),
    (["faults=[{ kind = 'broker', broker = 'z' }]"], "no broker 'z'; there are a, b"),
    (["faults=[{ kind = 'cut', site = 'z' }]"], "no broker is at 'z'; there are a, b"),
    (["faults=[{ kind = 'cut' }]"], "site"),
]


@pytest.mark.parametrize(("changes", "told"), WRONG)
def test_what_cannot_be_is_said_with_its_remedy(tmp_path: Path, changes: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        scenario_of(tmp_path, PROTOCOL, TWO, *changes)
    assert told in str(raised.value)
