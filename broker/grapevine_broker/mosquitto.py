"""Mosquitto as a supervised child process: the broker for more than one machine, and for version 5."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from grapevine_broker.acl import acl_text
from grapevine_broker.child import ChildProcess
from grapevine_broker.probe import answers_mqtt, claim_port, is_loopback
from grapevine_broker.running import BrokerProcess
from grapevine_proto.errors import BrokerError

MAX_PACKET_BYTES = 1_048_576  # a message of 1,000,000 bytes goes whole, with its topic and header
MAX_QUEUED_BYTES = 64_000_000  # per peer
SAVE_EVERY_S = 600  # what is retained, whole: for a power cut; an orderly end saves it as well
_SBIN = "/usr/local/sbin:/usr/sbin:/opt/homebrew/sbin"  # packages put it there, and few users' PATH names it
_ACCOUNT = "mosquitto"  # what the distributions' packages create


def find_mosquitto() -> str:
    """Return the path of the Mosquitto binary.

    Raises:
        BrokerError: There is none on this machine.
    """
    path = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
    if path is None:
        msg = "no mosquitto on this machine: install it (Debian: apt-get install mosquitto), or use --engine embedded"
        raise BrokerError(msg)
    return path


def basic_config(
    *, host: str, port: int, anonymous: bool, max_packet_bytes: int = MAX_PACKET_BYTES, max_in_flight: int = 20
) -> list[str]:
    """The lines of a `mosquitto.conf` that all of ours have; what is retained, and users, are not among them."""
    return [
        f"listener {port} {host}",
        # Without it, small packets wait for one another: 47 ms instead of 3.5 over TLS.
        "set_tcp_nodelay true",
        f"allow_anonymous {'true' if anonymous else 'false'}",
        f"max_packet_size {max_packet_bytes}",
        f"max_inflight_messages {max_in_flight}",
        # For a peer that is slow to read. Its own default of 1,000 messages loses QoS 1 without a word.
        "max_queued_messages 10000",
        f"max_queued_bytes {MAX_QUEUED_BYTES}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "connection_messages false",
    ]


class MosquittoBroker(BrokerProcess):
    """Mosquitto with a configuration of ours in a folder of its own, gone when it is stopped.

    Retained messages live in memory, and with `state_dir` in a file as well. Without it a restart loses records: our
    access rules let nobody put back another peer's.

    Args:
        host: The address to listen on. Anything but loopback needs `password_file`.
        port: The TCP port; 0 picks a free one, which a restart keeps.
        password_file: Users and hashed passwords as `mosquitto_passwd` writes them; a peer's user name is its id.
        acl_file: Access rules instead of the four lines of `acl.acl_text`; only with `password_file`.
        root_topic: The root of the topic tree that those four lines protect.
        home_assistant: The user name of Home Assistant, if it is at this broker: see `acl.acl_text`.
        servers: The user names of servers that may be in a group: the same.
        state_dir: Where it keeps what it retains, for its next start; made where it is missing. None: nowhere.
        max_packet_bytes: The largest packet that is accepted; version 5 clients are told.
        max_in_flight: QoS 1 messages that may wait for their acknowledgement, from and to each client; version 5
            clients are told. Mosquitto's own is 20.
        more_config: Further lines of its configuration, such as `bridge.Bridge.config`.
        log_to_terminal: Whether Mosquitto's warnings go to our standard error.

    Raises:
        BrokerError: No binary, no such file, or an open broker on a network address.
        ConfigError: `root_topic` is not one or two plain levels, or the user name is none.
    """

    name = "mosquitto"

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        password_file: Path | None = None,
        acl_file: Path | None = None,
        root_topic: str = "grapevine/v1",
        home_assistant: str = "",
        servers: Sequence[str] = (),
        state_dir: Path | None = None,
        max_packet_bytes: int = MAX_PACKET_BYTES,
        max_in_flight: int = 20,
        more_config: str = "",
        log_to_terminal: bool = False,
    ) -> None:
        if not is_loopback(host) and password_file is None:
            msg = (
                f"refusing to listen on {host} without authentication: anybody on that network could read and erase "
                "every record. Give --password-file (made by mosquitto_passwd, one user per peer id), "
                "or listen on 127.0.0.1"
            )
            raise BrokerError(msg)
        if acl_file is not None and password_file is None:
            msg = f"--acl {acl_file} has no effect without --password-file: its rules go by user name"
            raise BrokerError(msg)
        for file in (password_file, acl_file):
            if file is not None and not file.is_file():
                msg = f"there is no file {file}: make it first (passwords with mosquitto_passwd -c {file} <peer id>)"
                raise BrokerError(msg)
        super().__init__(host="127.0.0.1" if host == "localhost" else host, port=port)
        self._binary = find_mosquitto()
        self._password_file = password_file
        self._acl_file = acl_file
        self._acl = acl_text(root_topic, home_assistant, servers)
        self._state_dir = state_dir
        self._max_packet_bytes = max_packet_bytes
        self._more_config = more_config
        self._max_in_flight = max_in_flight
        self._child = ChildProcess(log_to_terminal=log_to_terminal)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._held: int | None = None  # its state folder, locked

    def start(self) -> None:
        """Start Mosquitto and return once it answers a CONNECT.

        Raises:
            BrokerError: The port is taken, its state folder cannot be made or is not for it, or Mosquitto does not come
                up; the message quotes its log.
        """
        self.port = claim_port(self.host, self.port)
        self._remove_folder()  # of one that died by itself
        self._folder = tempfile.TemporaryDirectory(prefix="grapevine-mosquitto-")
        try:
            config = self._write_config(Path(self._folder.name))
        except BrokerError:
            self._remove_folder()
            raise
        command = [sys.executable, "-m", "grapevine_broker.leash"]
        if _account():
            command += ["--user", _ACCOUNT]
        command += [str(os.getpid()), self._binary, "-c", str(config)]
        probe_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        try:
            self._child.spawn(command)
            self._child.wait_until(lambda: answers_mqtt(probe_host, self.port), what=self.name)
        except BrokerError:
            self._remove_folder()
            raise

    def stop(self) -> None:
        """End it with SIGTERM, after 5 seconds with SIGKILL."""
        super().stop()
        self._remove_folder()

    def kill(self) -> None:
        """End it with SIGKILL."""
        super().kill()
        self._remove_folder()

    def reload(self) -> None:
        """Have it read users and access rules again, from the files that were given. Connections stay."""
        os.kill(self.pid, signal.SIGHUP)

    def _persistence(self) -> list[str]:
        """Where to keep what is retained. Raises `BrokerError` if that folder cannot be made, or is not for us."""
        if self._state_dir is None:
            return ["persistence false"]
        folder, account = self._state_dir.resolve(), _account()
        if any(character in str(folder) for character in "\n\r"):
            msg = f"{str(folder)!r}: no folder for Mosquitto's configuration; name another one with --state-dir"
            raise BrokerError(msg)
        try:
            if not folder.exists():
                for missing in [each for each in reversed(folder.parents) if not each.exists()]:
                    missing.mkdir()
                    missing.chmod(0o755)  # whatever the umask: Mosquitto has to come through
                folder.mkdir(mode=0o700)
                if account is not None:
                    os.chown(folder, account.pw_uid, account.pw_gid)
            elif account is not None and folder.stat().st_uid != account.pw_uid:
                msg = f"{folder} is there, and not {account.pw_name}'s, as whom Mosquitto runs: name a folder that is "
                raise BrokerError(f"{msg}not there yet with --state-dir, or say chown {account.pw_name} {folder}")
        except OSError as error:
            msg = f"{folder} cannot be made ({error.strerror}): name another folder with --state-dir"
            raise BrokerError(msg) from error
        for above in folder.parents:
            if account is not None and not _lets_through(above, account):
                msg = f"{folder}: {account.pw_name}, as whom Mosquitto runs, may not go through {above}: "
                raise BrokerError(f"{msg}name another folder with --state-dir, or say chmod o+x {above}")
        self._hold(folder)
        return ["persistence true", f"persistence_location {folder}/", f"autosave_interval {SAVE_EVERY_S}"]

    def _hold(self, folder: Path) -> None:
        """Keep other brokers of ours out: of two that write there, the last one's records would be left."""
        self._held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{folder} is in use by another broker: stop that one, or name another folder with --state-dir"
            raise BrokerError(msg) from None

    def _write_config(self, folder: Path) -> Path:
        lines = [
            *basic_config(
                host=self.host,
                port=self.port,
                anonymous=self._password_file is None,
                max_packet_bytes=self._max_packet_bytes,
                max_in_flight=self._max_in_flight,
            ),
            *self._persistence(),
        ]
        files = [folder, folder / "mosquitto.conf"]
        if self._password_file is not None:
            acl = self._acl_file.resolve() if self._acl_file else folder / "acl"
            if self._acl_file is None:
                acl.write_text(self._acl)
                files.append(acl)
            lines += [f"password_file {self._password_file.resolve()}", f"acl_file {acl}"]
        files[1].write_text("\n".join([*lines, self._more_config]) + "\n")
        account = _account()
        for file in files if account else []:
            os.chown(file, account.pw_uid, account.pw_gid)  # type: ignore[union-attr]
        return files[1]

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _lets_through(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether a user may enter what lies in a folder, by its mode."""
    held = folder.stat()
    who = 0o100 if held.st_uid == account.pw_uid else 0o010 if held.st_gid == account.pw_gid else 0o001
    return bool(held.st_mode & who)


def _account() -> pwd.struct_passwd | None:
    """Return the account that Mosquitto should run as: root hands it to the package's own user.

    Mosquitto would change user by itself, but that makes Linux forget the parent-death signal.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return None
