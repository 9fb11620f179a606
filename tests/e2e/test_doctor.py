"""`grapevine doctor` on real brokers in good and bad states, and beside an agent that runs."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.conftest import ENGINES, SharedBroker
from tests.e2e.household import household, wait_for
from tests.e2e.test_transport_secure import secure_ports  # noqa: F401 - a fixture

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.doctor import sources, tls, trainer
from grapevine_agent.doctor.asking import Asking, Met
from grapevine_agent.doctor.brokers import findings_of
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import find_out
from grapevine_agent.identity import first_identity
from grapevine_agent.net.events import Arrived
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_broker.mosquitto import MosquittoBroker

ME = "a" * 20
ROOT = "grapevine/v1"
WANTED = 1_000_000
PEER_RULES = f"pattern write {ROOT}/peer/%u/#\npattern read {ROOT}/peer/#\n"
INBOX_RULES = f"pattern write {ROOT}/inbox/+/%u/#\npattern read {ROOT}/inbox/%u/#\n"
mosquitto = pytest.mark.mosquitto


async def ask(url: str, *, root: str = ROOT, user: str = "", password: str = "") -> dict[str, Finding]:
    """What is found at a broker, by the check's name."""
    address = BrokerUrl.parse(url)
    met = Met(url=str(address))
    transport = Transport(
        [address],
        client_id=f"{ME}-cli-doctor",
        username=user,
        password=password,
        max_packet_bytes=WANTED,
        backoff_s=(0.2, 1.0),
    )
    began_s = time.monotonic()
    await Asking(transport=transport, root=root, peer=ME, own=ME, wanted_bytes=WANTED, met=met).run()
    assert time.monotonic() - began_s < 20.0
    return {each.check: each for each in findings_of(met, root=root, peer=ME, wanted_bytes=WANTED, user=user)}


def levels(found: dict[str, Finding]) -> dict[str, str]:
    return {name: each.level for name, each in found.items()}


ALL_WELL = {"broker": "ok", "access": "ok", "retained": "ok", "packets": "ok"}


async def test_a_broker_as_it_should_be(broker: SharedBroker) -> None:
    found = await ask(broker.url, root=broker.root)
    assert levels(found) == ALL_WELL
    assert found["packets"].facts["came_bytes"] == WANTED
    left: list[str] = []
    transport = Transport([BrokerUrl.parse(broker.url)], client_id="looks-after-it")
    running = asyncio.create_task(transport.run())
    await transport.subscribe((f"{broker.root}/#", 0))
    hearing = asyncio.create_task(_topics(transport, left))
    await asyncio.sleep(1.0)
    await transport.disconnect()
    await asyncio.gather(running, hearing)
    assert left == []  # nothing is retained any more


async def _topics(transport: Transport, found: list[str]) -> None:
    found += [event.topic async for event in transport.events() if isinstance(event, Arrived)]


# --- access rules -----------------------------------------------------------------------------------


@pytest.fixture
def passwords() -> Iterator[Path]:
    """Two users; in a folder that Mosquitto's own user can read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "passwords"
        path.write_text(f"{ME}:secret\nother:secret\n")
        try:
            subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs mosquitto_passwd, which comes with Mosquitto")
        path.chmod(0o644)
        yield path


@mosquitto
@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (PEER_RULES + INBOX_RULES, ""),
        (f"pattern read {ROOT}/peer/#\n" + INBOX_RULES, "what we publish on grapevine/v1/peer/"),
        (f"pattern write {ROOT}/peer/%u/#\n" + INBOX_RULES, "does not let us read grapevine/v1/peer/#"),
        (PEER_RULES, "our inbox, grapevine/v1/inbox/"),
        ("topic read nothing\n", "what we publish on grapevine/v1/peer/"),
    ],
    ids=["all", "no publishing", "no reading", "no inbox", "nothing"],
)
async def test_what_access_rules_forbid_is_seen_though_the_broker_is_silent(
    passwords: Path, rules: str, says: str, version: str
) -> None:
    acl = passwords.with_name("acl")
    acl.write_text(rules)
    acl.chmod(0o644)
    with MosquittoBroker(password_file=passwords, acl_file=acl) as broker:
        found = await ask(f"{broker.url}?version={version}", user=ME, password="secret")
        assert found["broker"].level == "ok"
        assert found["access"].level == ("fail" if says else "ok")
        assert says in found["access"].says
        assert not says or f"write {ROOT}/inbox/+/{ME}/#" in found["access"].remedy


@mosquitto
async def test_who_logs_in_is_told_apart_from_what_it_may(passwords: Path) -> None:
    with MosquittoBroker(password_file=passwords) as broker:
        wrong = await ask(broker.url, user=ME, password="wrong")
        assert levels(wrong) == {"broker": "fail"}
        assert f"not authorized (user '{ME}')" in wrong["broker"].says
        assert "check the user name and password" in wrong["broker"].remedy
        other = await ask(broker.url, user="other", password="secret")
        assert levels(other) == {"broker": "ok", "access": "fail"}
        assert "leave username out of [mqtt]" in other["access"].remedy


# --- brokers that give less --------------------------------------------------------------------------


@mosquitto
@pytest.mark.parametrize(
    ("version", "config", "check", "level", "says"),
    [
        ("5", "retain_available false", "retained", "warn", "this broker gives no retained messages to whoever"),
        ("3.1.1", "retain_available false", "retained", "fail", "it ends the connection over a message that is to be"),
        ("5", "message_size_limit 20000", "packets", "warn", "15,625 bytes came through"),
        ("3.1.1", "message_size_limit 20000", "packets", "warn", "15,625 bytes came through"),
    ],
)
async def test_what_a_broker_does_not_do_is_found_out(
    config: str, check: str, level: str, says: str, version: str
) -> None:
    with MosquittoBroker(more_config=config) as broker:
        found = await ask(f"{broker.url}?version={version}")
    assert levels(found) == ALL_WELL | {check: level}
    assert says in found[check].says
    assert "Mosquitto: " in found[check].remedy


@mosquitto
@pytest.mark.parametrize(
    ("version", "says"),
    [("5", "takes no packets above 15,000 bytes"), ("3.1.1", "ends the connection over a packet of 1,000,000 bytes")],
)
async def test_a_packet_limit_is_told_whether_it_is_announced_or_not(version: str, says: str) -> None:
    with MosquittoBroker(max_packet_bytes=15_000) as broker:
        found = await ask(f"{broker.url}?version={version}")
    assert levels(found) == ALL_WELL | {"packets": "warn"}
    assert says in found["packets"].says
    assert 8_000 < found["packets"].facts["came_bytes"] <= 15_000


# --- TLS and ports ------------------------------------------------------------------------------------


@mosquitto
def test_a_certificate_is_looked_at_before_any_login(secure_ports: Any, tmp_path: Path) -> None:  # noqa: F811
    ports, ca_file = secure_ports["ports"], secure_ports["certificate_file"]
    path = tmp_path / "agent.toml"
    path.write_text(f'[mqtt]\nbrokers = ["mqtts://127.0.0.1:{ports["mqtts"]}"]\nca_file = "{ca_file}"\n')
    mqtt = load_config(path, {}).mqtt
    url = BrokerUrl.parse(mqtt.brokers[0])
    (line,) = tls.tls(url, mqtt, has_password=False)
    assert line.level == "warn"  # it is good for a day
    assert 0.5 < line.facts["days_left"] < 1.5
    path.write_text(f'[mqtt]\nbrokers = ["{url}"]\n')
    (line,) = tls.tls(url, load_config(path, {}).mqtt, has_password=False)
    assert line.level == "fail"
    assert "not trusted" in line.says
    assert "set mqtt.ca_file" in line.remedy
    (line,) = tls.tls(BrokerUrl.parse("mqtts://127.0.0.1:1"), mqtt, has_password=False)
    assert line.level == "skip"
    for host, has_password, level in (
        ("127.0.0.1", True, "ok"),
        ("hub.local", False, "ok"),
        ("hub.local", True, "warn"),
    ):
        (line,) = tls.tls(BrokerUrl.parse(f"mqtt://{host}"), mqtt, has_password=has_password)
        assert line.level == level


@mosquitto
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("scheme", "port", "remedy"),
    [
        ("mqtts", "mqtt", "write mqtt://127.0.0.1:{} into [mqtt] brokers"),
        ("mqtt", "mqtts", "write mqtts://127.0.0.1:{} into [mqtt] brokers"),
        ("mqtt", "ws", "write ws://127.0.0.1:{}/mqtt into [mqtt] brokers"),
        ("ws", "mqtt", "write mqtt://127.0.0.1:{} into [mqtt] brokers"),
    ],
)
async def test_a_wrong_port_is_told_with_what_to_write(
    secure_ports: Any,  # noqa: F811
    scheme: str,
    port: str,
    remedy: str,
) -> None:
    number = secure_ports["ports"][port]
    found = await ask(f"{scheme}://127.0.0.1:{number}")
    gc.collect()  # a socket that the client library leaves behind is told of here, and not in another test
    assert levels(found) == {"broker": "fail"}
    assert found["broker"].remedy == remedy.format(number)


# --- the command ----------------------------------------------------------------------------------------


def doctor(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "grapevine_agent", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def by_check(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The worst of each check."""
    found: dict[str, dict[str, Any]] = {}
    order = ("skip", "ok", "warn", "fail")
    for each in json.loads(done.stdout)["findings"]:
        if order.index(each["level"]) >= order.index(found.get(each["check"], {"level": "skip"})["level"]):
            found[each["check"]] = each
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_agent_that_runs_is_asked_and_not_disturbed(engine: str, tmp_path: Path) -> None:
    from grapevine_broker import start_broker

    with start_broker(engine) as broker, household(tmp_path, broker.url, ROOT) as home:
        reviewer = home.add("ada")
        member = home.add("ben", digits=0, trusted=[reviewer, home.add("eva")])
        for each in (reviewer, member):
            each.start()
        wait_for(lambda: (member.status() or {}).get("peers", {}).get("alive") == 1, why="they have met")
        wait_for(lambda: (member.status() or {}).get("connected"), why="a broker has it")
        began_s = time.monotonic()
        done = member.ask("doctor", "--json", check=False)
        took_s = time.monotonic() - began_s
        found, told = by_check(done), json.loads(done.stdout)
        assert told["agent"] == "runs"
        assert told["peer"] == member.peer
        assert took_s < 60.0
        wrong = {name: each for name, each in found.items() if each["level"] == "fail"}
        assert wrong == {}, done.stdout
        assert done.returncode == 0
        assert {name for name, each in found.items() if each["level"] == "ok"} >= {
            *("configuration", "agent", "identity", "state", "broker", "access", "retained", "packets", "trust"),
            *("data", "trainer"),
        }
        assert found["clock"]["facts"]["peers_heard"] == 1
        assert abs(found["clock"]["facts"]["peers_ahead_s"]) < 5.0
        assert (found["trust"]["facts"]["reviewers_heard_of"], found["trust"]["facts"]["reviewers_there"]) == (1, 1)
        assert found["data"]["facts"]["samples"] > 100
        assert found["trainer"]["facts"]["step_ms"] > 0
        status = member.status()
        assert status is not None
        assert status["connected"]
        assert status["rejected"] == {}
        assert status["trouble"] == ""
        assert "lost" not in member.log()
        assert "another agent runs" not in member.log() + reviewer.log()


def test_without_agent_or_broker_it_says_so_in_plain_lines(tmp_path: Path, unused_tcp_port: int) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\nstate_dir = "state"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:{unused_tcp_port}"]\n'
        '[limits]\ncan_train = false\n[[data]]\nkind = "x"\npath = "gone.npz"\n'
    )
    done = doctor("--config", str(path))
    assert done.returncode == 1
    assert "\x1b" not in done.stdout  # it is piped
    assert f"✗ broker         mqtt://127.0.0.1:{unused_tcp_port}: nothing listens on" in done.stdout
    assert "                 → is the broker running?" in done.stdout
    assert "! agent          no agent runs here" in done.stdout
    assert "✗ data" in done.stdout
    assert "gone.npz" in done.stdout
    assert "- trainer" in done.stdout
    assert "2 failures" in done.stdout.splitlines()[-1]
    remedies = [line for line in done.stdout.splitlines() if "→" in line]
    assert len(remedies) == len(set(remedies)), "each is told once"
    assert not (tmp_path / "state").exists()  # nothing is made
    plain = doctor("--config", str(path), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert "x broker         mqtt://" in plain.stdout
    assert "-> is the broker running?" in plain.stdout


def test_a_broken_configuration_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nstate_dir = "state"\n[mqtt]\nbroker = 5\n[limits]\ncan_train = false\n')
    first_identity(tmp_path / "state")
    done = doctor("--config", str(path), "--json")
    found = by_check(done)
    assert done.returncode == 1
    assert {name for name, each in found.items() if each["level"] == "fail"} == {"configuration"}
    assert "mqtt.broker" in found["configuration"]["says"]
    assert found["configuration"]["facts"]["not_read"] == ["mqtt"]
    assert found["broker"]["level"] == found["data"]["level"] == "skip"
    assert "see configuration" not in found["broker"]["remedy"]
    assert found["identity"]["level"] == found["state"]["level"] == "ok"
    path.write_text('[agent]\nstate_dir = "state"\n[mqtt]\nca_file = "gone.pem"\n[limits]\ncan_train = false\n')
    found = by_check(doctor("--config", str(path), "--json"))
    assert [found[each]["level"] for each in ("configuration", "broker")] == ["fail", "skip"]
    assert found["broker"]["remedy"] == "see configuration above"
    path.write_text("[agent\n")
    done = doctor("--config", str(path))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "✓ board" in done.stdout


@pytest.mark.timeout(120)
async def test_a_port_that_says_nothing_costs_half_a_minute_at_most(tmp_path: Path) -> None:
    connections: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        path = tmp_path / "agent.toml"
        path.write_text(
            f'[agent]\nstate_dir = "state"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:{port}"]\n'
            "[limits]\ncan_train = false\n"
        )
        began_s = time.monotonic()
        done = await asyncio.to_thread(doctor, "--config", str(path), "--json")
        assert time.monotonic() - began_s < 40.0  # with Python's own start
        line = by_check(done)["broker"]
        assert line["level"] == "fail"
        assert "did not answer a CONNECT" in line["says"]
        for each in connections:
            each.close()


# --- what costs a process ---------------------------------------------------------------------------------


async def test_a_source_is_read_to_its_end_in_a_process_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=np.zeros((7, 2), np.float32), y=np.zeros(7, np.int64))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    os.mkfifo(tmp_path / "pipe.csv")
    path = tmp_path / "agent.toml"
    path.write_text(
        "".join(
            f'[[data]]\nname = "{name}"\nkind = "k"\npath = "{file}"\n'
            for name, file in (("good", "good.npz"), ("bad", "bad.npz"), ("pipe", "pipe.csv"))
        )
    )
    good, bad, pipe = load_config(path, {}).data
    assert [each.level for each in await sources.source(good, ())] == ["ok"]
    assert [each.facts["samples"] for each in await sources.source(good, ())] == [7]
    assert [each.level for each in await sources.source(good, ["no message came"])] == ["warn"]
    assert sources.why_silent(find_out(path, {})) == {}
    for each in (bad, pipe):
        (line,) = await sources.source(each, ())
        assert line.level == "fail"
        assert str(each.path) in line.says


@pytest.mark.parametrize(
    ("limits", "level", "says"),
    [
        ("", "ok", "a step of a tiny program took"),
        ('sandbox = "off"', "warn", "limits of memory and time only"),
        ("can_train = false", "skip", "trains nothing here"),
    ],
)
async def test_a_step_is_taken_in_the_sandbox_that_tasks_have(
    tmp_path: Path, limits: str, level: str, says: str
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "state"\n[limits]\n{limits}\n')
    (line,) = await trainer.trainer(find_out(path, {}), 60.0)
    assert line.level == level
    assert says in line.says
    if level == "ok":
        assert "seccomp" in line.facts["protection"]
        assert line.facts["memory_mb"] > 100


async def test_a_trainer_that_does_not_start_in_time_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nstate_dir = "state"\n')
    (line,) = await trainer.trainer(find_out(path, {}), 0.05)
    assert line.level == "fail"
    assert "took longer than" in line.says


async def test_a_trainer_of_the_owner_is_asked_whether_it_is_there(tmp_path: Path, unused_tcp_port: int) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'[[trainer]]\nkind = "k"\nurl = "http://127.0.0.1:{unused_tcp_port}"\n')
    (line,) = await trainer.attached(load_config(path, {}).trainers[0])
    assert line.level == "fail"
    assert "is the trainer running?" in line.says
