"""Three servers, each a process, share a task's members on real brokers; one is killed, and nobody's update is lost.

By shared subscriptions on Mosquitto with MQTT 5, by the members' own choice with 3.1.1 and on the embedded broker.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from tests.e2e.conftest import ENGINES, Connect
from tests.e2e.household import Household, Member, household
from tests.e2e.learning_here import published

from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.offers import in_order
from grapevine_agent.core.settings import DeviceLimits, ReviewPolicy
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.overlay.here import PlayedTraining, agent_here
from grapevine_lab.overlay.here import until as until_within
from grapevine_proto.errors import BrokerError
from grapevine_proto.messages import ServerAdvert
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.catalogue import catalogue_task

pytestmark = pytest.mark.timeout(300)  # many processes, on a machine that may have other work

GROUP = "barn"
NUM_MEMBERS, NUM_SERVERS, NUM_ROUNDS = 6, 3, 12


async def until(holds: Callable[[], bool]) -> None:
    await until_within(holds, within_s=200)


@cache
def built() -> BuiltTask:
    """The catalogue's digits, over after some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        changes = {"training": {"round_interval_s": 0.3, "num_rounds": NUM_ROUNDS}}
        return build_task(
            catalogue_task("digits"), check_merging=check_merge_plan, changes=changes, into=Path(folder), compared=False
        )


@dataclass
class Farm:
    """Members in this process, who learn nothing, and servers in processes of their own."""

    task: str
    members: list[AgentService]
    servers: list[Member]

    def learning(self, member: AgentService) -> Learning:
        return member.core.tasks.learning[self.task]

    def holders(self) -> dict[str, str]:
        """Member → the server that says that it has its newest update; empty: none."""
        return {each.identity.peer_id: self.learning(each).sending.offers.holder(GROUP) for each in self.members}

    def advert(self, server: Member) -> ServerAdvert:
        """What a server says of itself; until it came, that it is away."""
        record = self.members[0].core.records.get(TaskTopic(server.peer, self.task, "server"))
        if record is None:
            return ServerAdvert(task=self.task, online=False, contributors=(), heartbeat_s=1)
        assert isinstance(record.message.body, ServerAdvert)
        return record.message.body

    def named_by(self, *servers: Member) -> set[str]:
        """Whose updates are in the models of these servers, as their adverts say."""
        return {peer for server in servers for peer in self.advert(server).contributors}

    def versions_at(self, *servers: Member) -> dict[str, int]:
        """Member → the newest version of it that is in the newest model of any of these servers, at any member.

        Within a few rounds of the beginning a server of three members may be far from a fourth, which then refuses it.
        """
        found: dict[str, int] = {}
        links = [self.learning(member).servers[server.peer] for member in self.members for server in servers]
        for link in links:
            for peer, version in (link.model.contributions if link.model else {}).items():
                found[peer] = max(found.get(peer, 0), version)
        return found

    @property
    def is_over(self) -> bool:
        return all(self.learning(each).model.version == NUM_ROUNDS for each in self.members)


@asynccontextmanager
async def farm(home: Household, root: str) -> AsyncIterator[Farm]:
    """All of it running, before the first round is over."""
    keys = [SigningKey.generate() for _ in range(2)]
    reviewer = keys[1].peer_id
    servers = [home.add(f"server-{k}", role="server") for k in range(NUM_SERVERS)]
    for server in servers:
        text = server.config.read_text().replace("[agent]", f'[agent]\nserver_group = "{GROUP}"')
        server.config.write_text(
            text.replace("approvals = 2\ntrusted = []", f'approvals = 1\ntrusted = ["{reviewer}"]')
        )
    async with AsyncExitStack() as stack:

        async def add(name: str, **options: object) -> AgentService:
            member = agent_here(home.folder / name, [home.url], root=root, heartbeat_s=0.5, **options)  # type: ignore[arg-type]
            return await stack.enter_async_context(member)

        engineer, judge = [await add(f"speaker-{k}", key=key, consent="never") for k, key in enumerate(keys)]
        served = replace(built(), draft=replace(built().draft, servers=tuple(server.peer for server in servers)))
        task = published(engineer, served)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        members = [
            await add(
                f"member-{k}",
                trainers=PlayedTraining(0.1, k),
                review=ReviewPolicy(approvals=1, trusted=frozenset((reviewer,))),
                limits=DeviceLimits(cores=32, memory_mb=4_000, disk_mb=4_000),
                match_data=lambda _task, _head: "",
            )
            for k in range(NUM_MEMBERS)
        ]
        until_ms = clock.now().wall_ms + 3_600_000
        judge.perform(judge.core.review(task, approved=True, reason="", valid_until_ms=until_ms))
        await until(lambda: all(task in each.core.tasks.learning for each in members))
        yield Farm(task, members, servers)


async def nothing_is_lost_with(farm: Farm) -> tuple[dict[str, str], dict[str, str]]:
    """Kill a server that holds somebody's last update; who held what before and afterwards."""
    await until(lambda: farm.is_over and all(farm.holders().values()))
    before = farm.holders()
    victim = next(server for server in farm.servers if server.peer in before.values())
    alive = [server for server in farm.servers if server is not victim]
    await asyncio.to_thread(victim.kill)
    everybody = {each.identity.peer_id for each in farm.members}
    await until(lambda: set(farm.holders().values()) <= {server.peer for server in alive})
    await until(lambda: farm.named_by(*alive) == everybody)
    await until(lambda: farm.versions_at(*alive) == dict.fromkeys(everybody, NUM_ROUNDS))
    after = farm.holders()
    assert {peer: held for peer, held in before.items() if held != victim.peer} == {
        peer: held for peer, held in after.items() if before[peer] != victim.peer
    }
    return before, after


@pytest.mark.mosquitto
async def test_what_a_killed_server_had_is_shared_among_the_others(tmp_path: Path, connect: Connect) -> None:
    with start_broker("mosquitto") as running, household(tmp_path, running.url, "test/shared") as home:
        listener = await connect(running.url, subscribe=(f"{home.root}/group/#",))
        async with farm(home, home.root) as made:
            await until(lambda: all(made.advert(server).takes_shared for server in made.servers))
            await nothing_is_lost_with(made)
        await listener.transport.disconnect()
        said = {each.topic for each in await listener.rest() if isinstance(each, Arrived)}
        group = f"{home.root}/group/{made.task}/{GROUP}"
        assert said == {f"{group}/{member.identity.peer_id}" for member in made.members}


@pytest.mark.parametrize("engine", ENGINES)
async def test_where_nothing_is_shared_members_choose_and_choose_anew_when_their_server_is_killed(
    tmp_path: Path, engine: str
) -> None:
    with start_broker(engine) as running:
        url = running.url.partition("?")[0]
        with household(tmp_path, f"{url}?version=3.1.1", "test/chosen") as home:
            async with farm(home, home.root) as made:
                before, after = await nothing_is_lost_with(made)
                assert not any(made.advert(server).takes_shared for server in made.servers)
                orders = {peer: in_order(peer, [server.peer for server in made.servers]) for peer in before}
                as_chosen = [peer for peer, held in before.items() if held == orders[peer][0]]
                assert len(as_chosen) > NUM_MEMBERS / 2  # all, unless one was slow to answer
                for peer in as_chosen:
                    assert after[peer] in orders[peer][:2]


@pytest.mark.mosquitto
async def test_by_our_rules_servers_alone_get_what_is_said_to_their_group(connect: Connect) -> None:
    peers = ["member", "server-a", "server-b", "stranger"]
    with guarded(peers, servers=peers[1:3]) as url:
        topic, filters = "grapevine/v1/group/t/barn", ("$share/barn/grapevine/v1/group/t/barn/+",)
        member = await connect(url, username="member", password="of member")
        servers = [await connect(url, username=name, password=f"of {name}", subscribe=filters) for name in peers[1:3]]
        stranger = await connect(
            url, username="stranger", password="of stranger", subscribe=("grapevine/v1/group/#", *filters)
        )
        for name in ("stranger", "member/x"):
            with pytest.raises(BrokerError, match="refuses the message"):
                await member.transport.publish(f"{topic}/{name}", b"in another's name")
        sent = {b"%d" % k for k in range(30)}
        for payload in sent:
            await member.transport.publish(f"{topic}/member", payload)
        got: list[list[bytes]] = []
        for client in (*servers, stranger):
            await client.transport.disconnect()
            got.append([each.payload for each in await client.rest() if isinstance(each, Arrived)])  # type: ignore[misc]
        assert got[2] == []
        assert min(len(got[0]), len(got[1])) > 5
        assert len(set(got[0]) | set(got[1])) == len(got[0]) + len(got[1])  # each to one
        # What would be the stranger's part is lost with Mosquitto 2.0: members offer it again.
        assert set(got[0]) | set(got[1]) <= sent


@pytest.mark.mosquitto
async def test_a_shared_subscription_is_asked_for_with_mqtt_5_alone(connect: Connect) -> None:
    with start_broker("mosquitto") as running:
        options = {"subscribe": ("$share/barn/test/+", "test/end"), "wait": False}
        new, old = [await connect(f"{running.url}?version={version}", **options) for version in ("5", "3.1.1")]
        assert [(await each.next(Connected)).shares for each in (new, old)] == [True, False]
        speaker = await connect(running.url)
        for payload in (b"1", b"2", b"3"):
            await speaker.transport.publish("test/farm", payload)
        await speaker.transport.publish("test/end", b"")
        assert [(await new.arrival("test/farm")).payload for _ in range(3)] == [b"1", b"2", b"3"]
        assert (await old.next(Arrived)).topic == "test/end"


@contextmanager
def guarded(users: list[str], *, servers: list[str]) -> Iterator[str]:
    """The URL of a Mosquitto that knows these users, with the rules that we give it."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd, which comes with Mosquitto's package")
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as folder:
        Path(folder).chmod(0o755)  # Mosquitto, started by root, reads the file as its own user
        passwords = Path(folder) / "passwords"
        passwords.touch()
        for user in users:
            subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, f"of {user}"], check=True)
        passwords.chmod(0o644)
        with MosquittoBroker(password_file=passwords, servers=servers) as running:
            yield running.url
