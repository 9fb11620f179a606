"""Starting and ending brokers: real processes, real ports."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grapevine_broker import start_broker
from grapevine_broker.embedded import EmbeddedBroker
from grapevine_broker.mosquitto import MosquittoBroker, find_mosquitto
from grapevine_broker.probe import answers_mqtt, claim_port, is_loopback
from grapevine_broker.start import run_broker
from grapevine_proto.errors import BrokerError, RequestError

_no_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/bin:/opt/homebrew/sbin") is None,
    reason="needs Mosquitto on this machine: apt-get install mosquitto",
)
_no_rumqttd = pytest.mark.skipif(
    importlib.util.find_spec("iotcore") is None, reason="rumqttd is the extra `rumqtt`, where there is a wheel of it"
)
each_engine = pytest.mark.parametrize(
    "engine",
    [
        "embedded",
        pytest.param("rumqtt", marks=_no_rumqttd),
        pytest.param("mosquitto", marks=[pytest.mark.mosquitto, _no_mosquitto]),
    ],
)

PARENT = """
import sys, threading, time
from grapevine_broker import start_broker
brokers = []
starter = threading.Thread(target=lambda: brokers.append(start_broker(sys.argv[1])))
starter.start()
starter.join()
time.sleep(0.3)  # the thread that started the broker has ended: the broker must not have
print(brokers[0].port, brokers[0].pid, flush=True)
time.sleep(60)
"""

FOREGROUND = """
import sys
from grapevine_broker import run_broker
sys.exit(run_broker(sys.argv[1], port=0, say=lambda line: print(line, flush=True)))
"""


def wait_for(holds: Callable[[], bool], deadline_s: float = 10.0) -> bool:
    give_up_at = time.monotonic() + deadline_s
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.02)
    return False


def port_of(url: str) -> int:
    return int(url.partition("?")[0].rpartition(":")[2])


@each_engine
def test_a_started_broker_answers_and_a_stopped_one_does_not(engine: str) -> None:
    with start_broker(engine) as broker:
        port = port_of(broker.url)
        assert answers_mqtt("127.0.0.1", port)
    assert not answers_mqtt("127.0.0.1", port)
    broker.stop()  # once more harms nobody


@each_engine
def test_a_killed_broker_comes_back_on_its_port(engine: str) -> None:
    with start_broker(engine) as broker:
        url = broker.url
        broker.kill()
        assert not answers_mqtt("127.0.0.1", port_of(url))
        broker.start()
        assert broker.url == url
        os.kill(broker.pid, signal.SIGKILL)
        assert broker.wait(5.0) == -signal.SIGKILL
        broker.start()
        broker.restart()
        assert answers_mqtt("127.0.0.1", port_of(url))


@each_engine
def test_a_second_start_of_a_running_broker_is_an_error(engine: str) -> None:
    with start_broker(engine) as broker, pytest.raises(BrokerError):
        broker.start()


@each_engine
def test_a_taken_port_is_named_with_the_remedy(engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} on 127.0.0.1 is taken.*--port"):
            start_broker(engine, port=port)


@each_engine
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "hub.local"])
def test_an_open_broker_never_listens_on_a_network(engine: str, host: str) -> None:
    with pytest.raises(BrokerError, match="--password-file"):
        start_broker(engine, host=host)


@each_engine
def test_a_broker_dies_with_its_parent_and_not_with_the_thread_that_started_it(engine: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, engine], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        assert line, "the parent could not start its broker: see its standard error"
        port = int(line.split()[0])
        assert answers_mqtt("127.0.0.1", port)
        parent.kill()
    assert wait_for(lambda: not answers_mqtt("127.0.0.1", port))


@each_engine
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_ends_it_in_order(engine: str, how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREGROUND, engine], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        line = command.stdout.readline()
        assert line.startswith(f"{engine} broker at mqtt://127.0.0.1:")
        command.send_signal(how)
        assert command.stdout.read() == "stopped\n"
    assert command.returncode == 0


@each_engine
def test_in_the_foreground_a_dead_broker_is_reported_and_not_replaced(engine: str) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREGROUND, engine], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        pid = int(command.stdout.readline().partition("process ")[2].partition(")")[0])
        os.kill(pid, signal.SIGKILL)
        assert f"the {engine} broker died with status -9" in command.stdout.read()
    assert command.returncode == 1


def test_an_unknown_engine_or_port_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="embedded, mosquitto or rumqtt"):
        start_broker("emqx")
    with pytest.raises(RequestError, match="from 1 to 65535"):
        start_broker(port=70_000)
    with pytest.raises(RequestError, match="need --engine mosquitto"):
        run_broker("embedded", password_file=Path("x"), say=lambda _: None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_privileged_port_is_refused_with_the_reason() -> None:
    with pytest.raises(BrokerError, match="root"):
        claim_port("127.0.0.1", 80)


def test_an_address_of_another_machine_is_no_place_to_listen() -> None:
    with pytest.raises(BrokerError, match="--host"):
        claim_port("192.0.2.7", 0)


def test_loopback_is_told_from_other_addresses() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example")] == [False] * 4


def test_a_port_that_says_something_else_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        assert not answers_mqtt("127.0.0.1", server.getsockname()[1])
        thread.join()


def test_the_embedded_broker_forgets_old_records(capfd: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_records_expire())


async def _records_expire() -> None:
    with EmbeddedBroker(retained_max_age_s=0.5) as broker:
        await _send(broker.port, _publish("a/record", b"state"), b"")
        assert b"state" in await _send(broker.port, _subscribe("a/#"), b"state")
        give_up_at = time.monotonic() + 10
        while b"state" in await _send(broker.port, _subscribe("a/#"), b"state", patience_s=0.3):
            assert time.monotonic() < give_up_at


async def _send(port: int, packet: bytes, until: bytes, patience_s: float = 5.0) -> bytes:
    """Connect, send one packet, and read until `until` has come (or DISCONNECT after a PINGRESP)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me" + packet + b"\xc0\x00")
    received = b""
    try:
        async with asyncio.timeout(patience_s):
            while b"\xd0\x00" not in received or until not in received:
                chunk = await reader.read(4096)
                if not chunk:
                    break
                received += chunk
    except TimeoutError:
        pass
    writer.write(b"\xe0\x00")
    writer.close()
    await writer.wait_closed()
    return received


def _publish(topic: str, payload: bytes) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic.encode() + payload
    return bytes([0x31, len(body)]) + body  # QoS 0, retained


def _subscribe(topic: str) -> bytes:
    body = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic.encode() + b"\x00"
    return bytes([0x82, len(body)]) + body


@pytest.mark.mosquitto
@_no_mosquitto
def test_a_missing_file_of_mosquitto_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="mosquitto_passwd"):
        MosquittoBroker(password_file=tmp_path / "passwords")
    with pytest.raises(BrokerError, match="--password-file"):
        MosquittoBroker(acl_file=tmp_path / "acl")


@pytest.mark.mosquitto
@_no_mosquitto
def test_what_mosquitto_says_when_it_cannot_start_reaches_the_owner() -> None:
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as folder:
        Path(folder).chmod(0o755)  # Mosquitto, started by root, reads the files as its own user
        passwords, rules = Path(folder) / "passwords", Path(folder) / "acl"
        passwords.write_text("peer:x\n")
        rules.write_text("nonsense\n")
        with pytest.raises(BrokerError, match=r"(?s)mosquitto ended at once.*Invalid line in acl_file"):
            MosquittoBroker(password_file=passwords, acl_file=rules).start()


def test_without_a_binary_mosquitto_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("grapevine_broker.mosquitto._SBIN", "/nowhere")
    with pytest.raises(BrokerError, match="apt-get install mosquitto"):
        find_mosquitto()


@pytest.mark.mosquitto
@_no_mosquitto
def test_what_mosquitto_retains_outlasts_a_restart_where_it_has_a_state_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as parent:
        Path(parent).chmod(0o755)  # Mosquitto, started by root, has a user of its own
        folder = Path(parent) / "state of a broker"
        for state_dir, held in ((None, False), (folder, True)):
            with MosquittoBroker(state_dir=state_dir) as broker:
                asyncio.run(_send(broker.port, _publish("a/record", b"kept"), b""))
                broker.restart()
                found = asyncio.run(_send(broker.port, _subscribe("a/#"), b"kept", patience_s=5.0 if held else 0.5))
                assert (b"kept" in found) == held
        assert folder.stat().st_mode & 0o077 == 0, "nobody else reads it"
        with MosquittoBroker(state_dir=folder) as another:
            assert b"kept" in asyncio.run(_send(another.port, _subscribe("a/#"), b"kept"))


@pytest.mark.mosquitto
@_no_mosquitto
def test_a_state_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"file/state cannot be made.*--state-dir"):
        MosquittoBroker(state_dir=tmp_path / "file" / "state").start()
    with pytest.raises(RequestError, match="needs --engine mosquitto"):
        run_broker("embedded", state_dir=tmp_path, say=lambda _: None)


@pytest.mark.mosquitto
@_no_mosquitto
def test_a_state_folder_is_one_brokers_whatever_their_ports() -> None:
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "state"
        in_use = pytest.raises(BrokerError, match=r"state is in use by another broker.*--state-dir")
        with MosquittoBroker(state_dir=folder), in_use:
            MosquittoBroker(state_dir=folder).start()
        with MosquittoBroker(state_dir=folder) as free_again:
            assert free_again.port


@pytest.mark.mosquitto
@_no_mosquitto
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for whom Mosquitto runs as another user")
def test_mosquitto_comes_through_to_its_state_folder_or_it_is_said_what_is_in_the_way() -> None:
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as parent:
        with pytest.raises(BrokerError, match=rf"may not go through {parent}: .*chmod o\+x {parent}"):
            MosquittoBroker(state_dir=Path(parent) / "state").start()
        Path(parent).chmod(0o755)
        before = os.umask(0o077)
        try:
            with MosquittoBroker(state_dir=Path(parent) / "made" / "here" / "state") as broker:
                asyncio.run(_send(broker.port, _publish("a/record", b"kept"), b""))
                broker.restart()
                assert b"kept" in asyncio.run(_send(broker.port, _subscribe("a/#"), b"kept"))
        finally:
            os.umask(before)


@pytest.mark.mosquitto
@_no_mosquitto
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for whom Mosquitto runs as another user")
def test_a_folder_of_somebody_else_stays_his(tmp_path: Path) -> None:
    os.chown(tmp_path, 1000, 1000)
    with pytest.raises(BrokerError, match=r"is there, and not mosquitto's.*--state-dir, or say chown"):
        MosquittoBroker(state_dir=tmp_path).start()
    assert tmp_path.stat().st_uid == 1000


@pytest.mark.mosquitto
@_no_mosquitto
@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="needs mosquitto_passwd")
def test_a_new_user_is_let_in_after_a_reload_without_a_restart() -> None:
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as folder:
        Path(folder).chmod(0o755)
        passwords = Path(folder) / "passwords"
        _add_user(passwords, "first")
        code = FOREGROUND.replace("port=0", "port=0, password_file=pathlib.Path(sys.argv[2])")
        command = [sys.executable, "-c", f"import pathlib\n{code}", "mosquitto", str(passwords)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            line = running.stdout.readline()
            port, pid = (int(found) for found in re.findall(r":(\d+) \(process (\d+)\)", line)[0])
            _add_user(passwords, "second")
            assert [_is_let_in(port, name) for name in ("first", "second")] == [True, False]
            running.send_signal(signal.SIGHUP)
            assert "read again" in running.stdout.readline()
            assert wait_for(lambda: _is_let_in(port, "second"))
            assert Path(f"/proc/{pid}").exists(), "the same process"
            running.send_signal(signal.SIGTERM)
            assert running.stdout.read() == "stopped\n"


def _add_user(passwords: Path, name: str) -> None:
    create = [] if passwords.exists() else ["-c"]
    subprocess.run(["mosquitto_passwd", "-b", *create, str(passwords), name, "secret"], check=True, capture_output=True)
    passwords.chmod(0o644)


def _is_let_in(port: int, name: str) -> bool:
    """Whether a CONNECT of MQTT 3.1.1 with this user's password is accepted."""
    texts = b"".join(len(text).to_bytes(2, "big") + text for text in (b"me", name.encode(), b"secret"))
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + texts
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(bytes([0x10, len(body)]) + body)
        return connection.recv(4) == b"\x20\x02\x00\x00"
