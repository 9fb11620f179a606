"""Start a broker by the name of its engine: for tests and the demo, or in the foreground for an owner."""

from __future__ import annotations

import difflib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from grapevine_broker.embedded import EmbeddedBroker
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_broker.rumqtt import RumqttBroker
from grapevine_broker.rumqtt_config import VERSIONS, Version
from grapevine_broker.running import RunningBroker
from grapevine_proto.errors import RequestError

Engine = Literal["embedded", "mosquitto", "rumqtt"]
ENGINES: tuple[Engine, ...] = ("embedded", "mosquitto", "rumqtt")
_SPEAKS = {"embedded": "the embedded broker speaks 3.1.1", "mosquitto": "Mosquitto speaks both"}
LOOK_EVERY_S = 0.5  # whether it lives; a signal waits as long


def _broker(
    engine: str,
    *,
    host: str,
    port: int,
    password_file: Path | None = None,
    acl_file: Path | None = None,
    root_topic: str = "grapevine/v1",
    home_assistant: str = "",
    servers: Sequence[str] = (),
    state_dir: Path | None = None,
    mqtt_version: str = "",
    log_to_terminal: bool = False,
) -> RunningBroker:
    check_engine(engine)
    if not 0 <= port <= 65535:
        msg = f"{port} is no TCP port: give one from 1 to 65535 with --port, or 0 for any that is free"
        raise RequestError(msg)
    if mqtt_version and engine != "rumqtt":
        msg = f"--mqtt-version {mqtt_version} is for --engine rumqtt; {_SPEAKS[engine]}"
        raise RequestError(msg)
    if engine != "mosquitto":
        if password_file or acl_file or home_assistant or servers:
            msg = (
                f"the engine {engine} knows no users: --password-file, --acl, --homeassistant and --server need "
                "--engine mosquitto"
            )
            raise RequestError(msg)
        if state_dir is not None:
            msg = f"--state-dir {state_dir} needs --engine mosquitto: the engine {engine} keeps nothing"
            raise RequestError(msg)
    match engine:
        case "embedded":
            return EmbeddedBroker(host=host, port=port, log_to_terminal=log_to_terminal)
        case "rumqtt":
            version = _version(mqtt_version)
            return RumqttBroker(host=host, port=port, version=version, log_to_terminal=log_to_terminal)
        case "mosquitto":
            _check_rules(password_file, acl_file, home_assistant, servers)
            return MosquittoBroker(
                host=host,
                port=port,
                password_file=password_file,
                acl_file=acl_file,
                root_topic=root_topic,
                home_assistant=home_assistant,
                servers=servers,
                state_dir=state_dir,
                log_to_terminal=log_to_terminal,
            )
    raise AssertionError(engine)  # check_engine knows no other


def _check_rules(
    password_file: Path | None, acl_file: Path | None, home_assistant: str, servers: Sequence[str]
) -> None:
    """Raise `RequestError` where somebody is to be let in by rules of ours that are not there."""
    if acl_file is None and password_file is not None:
        return
    if home_assistant:
        msg = (
            f"--homeassistant {home_assistant} adds to our own rules for users: it needs --password-file, and no --acl"
        )
        raise RequestError(msg)
    if servers:
        msg = f"--server {servers[0]} adds to our own rules for users: it needs --password-file, and no --acl"
        raise RequestError(msg)


def check_engine(engine: str) -> None:
    """Raise `RequestError`, with the nearest name that there is, for an engine that there is not."""
    if engine not in ENGINES:
        msg = f"--engine {engine}: there is no such engine; {_nearest(engine)}"
        raise RequestError(msg)


def _nearest(engine: str) -> str:
    known = difflib.get_close_matches(engine.lower(), ENGINES, n=1)
    return f"did you mean {known[0]!r}?" if known else f"choose {', '.join(ENGINES[:-1])} or {ENGINES[-1]}"


def _version(wanted: str) -> Version:
    for version in VERSIONS:
        if wanted == version:
            return version
    if not wanted:
        return VERSIONS[0]
    msg = f"--mqtt-version {wanted}: rumqttd speaks {' or '.join(VERSIONS)}"
    raise RequestError(msg)


def start_broker(engine: str = "embedded", host: str = "127.0.0.1", port: int = 0) -> RunningBroker:
    """Start a broker and return once it answers.

    It ends with `stop()`, with `kill()`, at the end of a `with`, and at the latest with this process.

    Args:
        engine: One of `ENGINES`.
        host: The address to listen on; without authentication only loopback is allowed.
        port: The TCP port; 0 picks a free one.

    Raises:
        BrokerError: See the engines.
        RequestError: There is no such engine or port.
    """
    broker = _broker(engine, host=host, port=port)
    broker.start()
    return broker


def run_broker(
    engine: str = "embedded",
    host: str = "127.0.0.1",
    port: int = 1883,
    *,
    password_file: Path | None = None,
    acl_file: Path | None = None,
    root_topic: str = "grapevine/v1",
    home_assistant: str = "",
    servers: Sequence[str] = (),
    state_dir: Path | None = None,
    mqtt_version: str = "",
    say: Callable[[str], None],
    ready: Callable[[str], None] = lambda _line: None,
    alive: Callable[[], None] = lambda: None,
    alive_every_s: float | None = None,
) -> int:
    """Run a broker in the foreground until SIGINT or SIGTERM. Call it in the main thread.

    SIGHUP has users and access rules read again.

    A broker that dies is not started again: whoever supervises this command (systemd, a person)
    sees the exit status and decides.

    Args:
        engine: One of `ENGINES`.
        host: The address to listen on.
        port: The TCP port; 0 picks a free one.
        password_file: Mosquitto only: users and hashed passwords.
        acl_file: Mosquitto only: access rules instead of ours.
        root_topic: The root of the topic tree that our access rules protect.
        home_assistant: Mosquitto only: the user name of Home Assistant, whom our access rules let in as well.
        servers: Mosquitto only: the user names of servers that may be in a group, and take what is said to it.
        state_dir: Mosquitto only: where it keeps what it retains; None: nowhere.
        mqtt_version: rumqttd only: `3.1.1` or `5`, the one that it speaks; empty: 3.1.1.
        say: Gets each line meant for the owner.
        ready: Gets the first of them, when the broker answers.
        alive: Called every `alive_every_s` seconds if the broker answers then, for a supervisor that starts one anew
            which does not.
        alive_every_s: None: nobody asks.

    Returns:
        The command's exit status: 0 after a signal, 1 when the broker died.

    Raises:
        BrokerError: The broker does not start.
        RequestError: There is no such engine or port, or the engine has no such option.
    """
    broker = _broker(
        engine,
        host=host,
        port=port,
        password_file=password_file,
        acl_file=acl_file,
        root_topic=root_topic,
        home_assistant=home_assistant,
        servers=servers,
        state_dir=state_dir,
        mqtt_version=mqtt_version,
        log_to_terminal=True,
    )
    stopping, reloading = threading.Event(), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    def ask_to_reload(_number: int, _frame: FrameType | None) -> None:
        reloading.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, ask_to_reload)
    try:
        with broker:
            who = f"the users in {password_file}" if password_file else "anybody on this machine"
            where = broker.url if host in ("127.0.0.1", "localhost", "::1") else f"{broker.url}, listening on {host}"
            line = f"{engine} broker at {where} (process {broker.pid}), open to {who}"
            say(f"{line}; Ctrl-C stops it")
            ready(line)
            next_s = time.monotonic()
            while not stopping.is_set():
                status = broker.wait(LOOK_EVERY_S)
                if status is not None and not stopping.is_set():
                    say(f"the {engine} broker died with status {status}: see its messages above, then start it again")
                    return 1
                if reloading.is_set() and status is None:
                    reloading.clear()
                    broker.reload()
                    say(f"{who} and access rules: read again" if password_file else "there are no users to read again")
                if alive_every_s is not None and time.monotonic() >= next_s:
                    next_s = time.monotonic() + alive_every_s
                    if broker.answers():
                        alive()
        say("stopped")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0
