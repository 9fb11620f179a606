"""TLS, WebSockets, passwords and access rules against a Mosquitto configured for the test."""

from __future__ import annotations

import datetime
import gc
import http.server
import ipaddress
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from grapevine_agent import line
from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.identity import make_if_new
from grapevine_agent.net.events import Arrived, Connected, Trying
from grapevine_agent.net.failures import NotAllowedError
from grapevine_agent.net.tls import TlsOptions
from grapevine_broker.child import ChildProcess
from grapevine_broker.mosquitto import MosquittoBroker, find_mosquitto
from grapevine_broker.probe import answers_mqtt, claim_port
from grapevine_proto.errors import BrokerError

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(
        shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/bin:/opt/homebrew/sbin") is None,
        reason="needs Mosquitto on this machine: apt-get install mosquitto",
    ),
]


def self_signed(folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a certificate for an address that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "hub.pem", folder / "hub.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.fixture
def secure_ports(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A Mosquitto with a plain, a TLS, a WebSocket and a secure WebSocket listener."""
    certificate_file, key_file = self_signed(tmp_path)
    ports = {scheme: claim_port("127.0.0.1", 0) for scheme in ("mqtt", "mqtts", "ws", "wss")}
    lines = [f"user {'root' if os.geteuid() == 0 else 'nobody'}", "allow_anonymous true", "log_dest stderr"]
    for scheme, port in ports.items():
        lines.append(f"listener {port} 127.0.0.1")
        lines += ["protocol websockets"] if "ws" in scheme else []
        lines += [f"certfile {certificate_file}", f"keyfile {key_file}"] if scheme in ("mqtts", "wss") else []
    config = tmp_path / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    child = ChildProcess()
    child.spawn([find_mosquitto(), "-c", str(config)])
    child.wait_until(lambda: answers_mqtt("127.0.0.1", ports["mqtt"]), what="mosquitto")
    yield {"ports": ports, "certificate_file": certificate_file}
    child.stop()


@pytest.mark.parametrize("scheme", ["mqtts", "ws", "wss"])
async def test_every_scheme_carries_a_message(secure_ports: Any, connect: Any, scheme: str) -> None:
    tls = TlsOptions(ca_file=secure_ports["certificate_file"]) if scheme != "ws" else None
    url = f"{scheme}://127.0.0.1:{secure_ports['ports'][scheme]}"
    client = await connect(url, subscribe=("test/#",), tls=tls)
    payload = os.urandom(20_000)  # Mosquitto 2.0 takes 40 KB a second through a WebSocket
    await client.transport.publish("test/model", payload)
    assert (await client.next(Arrived)).payload == payload
    await client.transport.disconnect()


async def test_an_untrusted_certificate_is_refused_and_never_answered_with_plain_text(
    secure_ports: Any, connect: Any
) -> None:
    client = await connect(f"mqtts://127.0.0.1:{secure_ports['ports']['mqtts']}", wait=False)
    for _ in range(3):
        assert "set mqtt.ca_file" in (await client.next(Trying)).reason
    assert client.transport.connected_to is None
    await client.transport.disconnect()


# paho leaves the socket of a failed WebSocket handshake to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    ("scheme", "port", "told"),
    [
        ("mqtts", "mqtt", "does not speak TLS (8883 is its usual port): write mqtt://127.0.0.1:{port}"),
        ("mqtts", "ws", "does not speak TLS (8883 is its usual port): write ws://127.0.0.1:{port}/mqtt"),
        ("mqtt", "mqtts", "speaks TLS: write mqtts://127.0.0.1:{port}"),
        ("ws", "wss", "speaks TLS: write wss://127.0.0.1:{port}/mqtt"),
        ("mqtt", "ws", "speaks WebSockets: write ws://127.0.0.1:{port}/mqtt"),
        ("ws", "mqtt", "does not speak WebSockets: write mqtt://127.0.0.1:{port}"),
    ],
)
async def test_a_port_that_speaks_something_else_is_told_with_what_to_write(
    secure_ports: Any, connect: Any, scheme: str, port: str, told: str
) -> None:
    number = secure_ports["ports"][port]
    client = await connect(f"{scheme}://127.0.0.1:{number}", wait=False, connect_s=5.0, connack_s=1.0)
    trying = await client.next(Trying)
    assert told.format(port=number) in trying.reason
    assert trying.all_refuse
    assert client.transport.connected_to is None
    await client.transport.disconnect()
    gc.collect()  # here, and not in the next test


async def test_a_web_server_is_no_broker(connect: Any) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = await connect(f"mqtt://127.0.0.1:{server.server_address[1]}", wait=False, connack_s=1.0)
        trying = await client.next(Trying)
        assert "a web server answers on port" in trying.reason
        assert trying.all_refuse
        await client.transport.disconnect()
        server.shutdown()


async def test_nobody_there_is_no_refusal_and_one_broker_of_two_is_none_of_all(
    guarded: MosquittoBroker, connect: Any
) -> None:
    wrong = guarded.url.replace("mqtt://", "mqtt://ann:guessed@")
    closed = f"mqtt://127.0.0.1:{claim_port('127.0.0.1', 0)}"
    client = await connect(wrong, closed, wait=False)
    assert [(await client.next(Trying)).all_refuse for _ in range(4)] == [False] * 4
    await client.transport.disconnect()


@pytest.fixture
def guarded() -> Iterator[MosquittoBroker]:
    """A Mosquitto that knows the peers ann and bob, with our access rules."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd, which comes with Mosquitto's package")
    with tempfile.TemporaryDirectory(prefix="grapevine-test-") as folder:
        Path(folder).chmod(0o755)  # Mosquitto, started by root, reads the file as its own user
        passwords = Path(folder) / "passwords"
        passwords.touch()
        for peer in ("ann", "bob"):
            subprocess.run(["mosquitto_passwd", "-b", str(passwords), peer, f"secret of {peer}"], check=True)
        passwords.chmod(0o644)
        with MosquittoBroker(password_file=passwords) as running:
            yield running


def as_user(broker: MosquittoBroker, peer: str) -> str:
    return broker.url.replace("mqtt://", f"mqtt://{peer}:secret%20of%20{peer}@")


async def test_a_peer_writes_under_its_own_id_only_and_reads_its_own_inbox_only(
    guarded: MosquittoBroker, connect: Any
) -> None:
    root = "grapevine/v1"
    ann = await connect(as_user(guarded, "ann"), subscribe=(f"{root}/peer/#", f"{root}/inbox/#"))
    bob = await connect(as_user(guarded, "bob"))
    await ann.transport.publish(f"{root}/peer/ann/state", b"here", retain=True)
    assert (await ann.next(Arrived)).payload == b"here"
    with pytest.raises(NotAllowedError, match="refuses the message"):
        await bob.transport.publish(f"{root}/peer/ann/state", b"", retain=True)
    with pytest.raises(BrokerError, match="refuses the message"):
        await bob.transport.publish(f"{root}/inbox/ann/carl", b"forged")
    await bob.transport.publish(f"{root}/inbox/bob/bob", b"not for ann")
    await bob.transport.publish(f"{root}/inbox/ann/bob", b"for ann")
    assert (await ann.next(Arrived)).payload == b"for ann"
    await ann.transport.disconnect()
    await bob.transport.disconnect()


async def test_a_wrong_password_is_reported_without_showing_it(guarded: MosquittoBroker, connect: Any) -> None:
    url = guarded.url.replace("mqtt://", "mqtt://ann:guessed@")
    client = await connect(url, wait=False)
    trying = await client.next(Trying)
    assert "check the user name and password" in trying.reason
    assert "user 'ann'" in trying.reason
    assert trying.all_refuse
    assert "guessed" not in f"{trying}"
    await client.transport.disconnect()


async def test_whoever_is_refused_is_named_as_the_configuration_has_it(guarded: MosquittoBroker, connect: Any) -> None:
    client = await connect(guarded.url, wait=False, username="carl", password="whatever")
    assert "user 'carl'" in (await client.next(Trying)).reason
    await client.transport.disconnect()
    client = await connect(guarded.url, wait=False)
    assert "an anonymous client: no user name is configured" in (await client.next(Trying)).reason
    await client.transport.disconnect()


def test_a_command_that_no_broker_takes_in_says_so_at_once(
    guarded: MosquittoBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "CONNECT_S", 3600.0)  # which it does not wait for
    state = tmp_path / "state"
    (path := tmp_path / "agent.toml").write_text(
        f'[agent]\nstate_dir = "{state}"\n[mqtt]\nbrokers = ["{guarded.url}"]\nusername = "carl"\n'
    )
    make_if_new(state)
    told = r"not authori[sz]ed \(user 'carl'\).*configuration: nothing was sent$"
    with pytest.raises(BrokerError, match=told), line.open_line(load_config(path, {})):
        pass


async def test_credentials_of_the_configuration_serve_urls_without_any(guarded: MosquittoBroker, connect: Any) -> None:
    client = await connect(guarded.url, wait=False, username="bob", password="secret of bob")
    assert (await client.next(Connected)).version == "5"
    await client.transport.disconnect()
