"""Two sites on one Mosquitto, and scopes by broker and by time: who is in scope of whom, as real agents see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.agents import agent, agents, status

from grapevine_agent.cli.owner_commands import _describe
from grapevine_agent.cli.peer_commands import peer_table
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.overlay.here import until

ROOT = "scopes"

pytestmark = [pytest.mark.mosquitto]


def why_out(service: AgentService, other: AgentService) -> str | None:
    """None: it is no member yet."""
    members, peer = service.core.members, other.identity.peer_id
    return members.reach.why_out(peer) if members.is_member(peer) and members.peers[peer].is_announced else None


async def test_two_sites_on_one_mosquitto_keep_to_themselves(tmp_path: Path) -> None:
    berlin, potsdam = "location = [52.5163, 13.3777]", "location = [52.3989, 13.0657]"
    near = "[mqtt.scope]\nsite = true\nwithin_km = 5"
    with start_broker("mosquitto") as broker:
        urls = [broker.url]
        async with agents(
            agent(tmp_path / "a", urls, ROOT, own=f'site = "lake"\n{berlin}', mqtt=near),
            agent(tmp_path / "b", urls, ROOT, own=f'site = "lake"\n{berlin}', mqtt=near),
            agent(tmp_path / "c", urls, ROOT, own=f'site = "hill"\n{potsdam}', mqtt="scope = 'site'"),
            agent(tmp_path / "d", urls, ROOT, own=f'site = "lake"\n{potsdam}', mqtt="scope = 'site'"),
        ) as (ada, bob, carl, dora):
            await until(lambda: None not in {why_out(ada, each) for each in (bob, carl, dora)})
            await until(lambda: None not in {why_out(dora, each) for each in (ada, bob, carl)})
            assert why_out(ada, bob) == ""
            assert why_out(ada, carl) == "is at another site, hill"
            assert why_out(ada, dora) == "is 25 km away"
            assert why_out(dora, ada) == ""
            shown = await status(ada)
            assert shown["scope"] == {
                "site": "lake",
                "at_site": 2,
                "limits": "at lake, within 5 km",
                "num_in": 1,
                "num_out": 2,
            }
            assert "2 out of scope (models go to those at lake, within 5 km: grapevine peers)" in _describe(shown)
            listed = await Requests(ada).answer({"method": "peers"})
            of = {each["peer"]: each for each in listed["peers"]}
            found = of[dora.identity.peer_id]
            assert (found["location"], round(found["km"]), found["out_of_scope"]) == (
                [52.4, 13.07],
                25,
                "is 25 km away",
            )
            assert peer_table(listed["peers"]).row_count == 3


async def test_a_scope_by_broker_and_one_by_time(tmp_path: Path) -> None:
    with start_broker("mosquitto") as hub, start_broker("mosquitto") as barn:
        both = [hub.url, barn.url]
        async with agents(
            agent(tmp_path / "a", both, ROOT, mqtt=f'[mqtt.scope]\nbrokers = ["{hub.url}"]'),
            agent(tmp_path / "b", [hub.url], ROOT, mqtt="[mqtt.scope]\nwithin_ms = 5000"),
            agent(tmp_path / "c", [barn.url], ROOT),
        ) as (ada, bob, carl):
            await until(lambda: None not in {why_out(ada, bob), why_out(ada, carl), why_out(bob, ada)})
            assert why_out(ada, bob) == ""
            assert why_out(ada, carl) == "is at none of the brokers"
            peer = bob.core.members.peers[ada.identity.peer_id]
            await until(lambda: peer.trip_s is not None)
            assert why_out(bob, ada) == ""
            listed = await Requests(bob).answer({"method": "peers"})
            assert 0.0 < listed["peers"][0]["trip_ms"] < 5000.0
