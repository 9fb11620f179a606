"""One broker as a child process: started, proved ready, stopped, and never left behind."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from grapevine_proto.errors import BrokerError

_STOP_S = 5.0
_LOG_TAIL_BYTES = 2000


class ChildProcess:
    """A child with a keeper: a thread that starts it, waits for its end, and lives exactly as long.

    The kernel's parent-death signal follows the *thread* that started a child. Without a keeper, a
    broker started in a pool thread would be killed when the pool shrinks.
    """

    def __init__(self, *, log_to_terminal: bool = False) -> None:
        self._log_to_terminal = log_to_terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._spawn_error: OSError | None = None

    @property
    def is_running(self) -> bool:
        """Whether a child has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running child; BrokerError if there is none."""
        if self._process is None:
            msg = "the broker is not running: call start() first"
            raise BrokerError(msg)
        return self._process.pid

    def spawn(self, command: Sequence[str], *, reads_stdout: bool = False) -> None:
        """Start `command` with a pipe as its standard input, which ends when we do.

        Raises:
            BrokerError: The program cannot be started, or one is running already.
        """
        if self.is_running:
            msg = "the broker is running already: stop() it before another start()"
            raise BrokerError(msg)
        self._clear()  # one that died by itself
        self._spawn_error = None
        spawned = threading.Event()
        if not self._log_to_terminal:
            self._log = tempfile.TemporaryFile(prefix="grapevine-broker-")  # noqa: SIM115 - closed with the child

        def keep() -> None:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if reads_stdout else subprocess.DEVNULL,
                    stderr=self._log,
                    start_new_session=True,  # Ctrl-C in the terminal is ours to handle, not the child's
                )
            except OSError as error:
                self._spawn_error = error
                spawned.set()
                return
            spawned.set()
            self._process.wait()

        self._keeper = threading.Thread(target=keep, name="broker-keeper", daemon=True)
        self._keeper.start()
        spawned.wait()
        if self._spawn_error is not None:
            error = self._spawn_error
            self._clear()
            msg = f"cannot start {command[0]}: {error.strerror or error}"
            raise BrokerError(msg) from error

    def first_line(self) -> bytes:
        """Wait for one line of the child's standard output; empty if it ended first."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def report(self, failure: str) -> dict[str, Any]:
        """Wait for what the child reports in its first line (see `in_child.report`), and end it unless it has a port.

        Raises:
            BrokerError: It has none: `failure`, and why.
        """
        try:
            report: dict[str, Any] = json.loads(self.first_line() or b"{}")
        except ValueError:
            report = {}
        if "port" not in report:
            reason = report.get("error") or "it ended without a word"
            reason += self.log_tail()
            self.kill()
            msg = f"{failure}: {reason}"
            raise BrokerError(msg)
        return report

    def wait_until(self, ready: Callable[[], bool], *, what: str, deadline_s: float = 15.0) -> None:
        """Wait until `ready()` holds, or kill the child and say what it logged.

        Raises:
            BrokerError: The child ended, or was not ready after `deadline_s` seconds.
        """
        give_up_at = time.monotonic() + deadline_s
        while self.exit_status() is None:
            if ready() and self.exit_status() is None:  # not ready if it is another's broker that answers
                return
            if time.monotonic() > give_up_at:
                log = self.log_tail()
                self.kill()
                msg = f"{what} did not answer within {deadline_s:g} s{log}"
                raise BrokerError(msg)
            time.sleep(0.02)
        status, log = self.exit_status(), self.log_tail()
        self._clear()
        msg = f"{what} ended at once with status {status}{log}"
        raise BrokerError(msg)

    def exit_status(self) -> int | None:
        """Return the status that the child ended with (−9 for SIGKILL), or None while it runs."""
        return None if self._process is None else self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the child's end for at most `timeout_s` seconds; its status, or None."""
        if self._keeper is not None:
            self._keeper.join(timeout_s)
        return self.exit_status()

    def log_tail(self) -> str:
        """Return the end of what the child logged, as the tail of a sentence."""
        if self._log is None:
            return ""
        end = self._log.seek(0, 2)
        self._log.seek(max(0, end - _LOG_TAIL_BYTES))
        text = self._log.read().decode(errors="replace").strip()
        return f"; it said: {text}" if text else ""

    def stop(self) -> None:
        """End the child with SIGTERM, and with SIGKILL if it has not gone after 5 seconds."""
        if self._process is None:
            return
        self._process.terminate()
        if self.wait(_STOP_S) is None:
            self._process.kill()
        self._clear()

    def kill(self) -> None:
        """End the child with SIGKILL, as a power cut would."""
        if self._process is None:
            return
        self._process.kill()
        self._clear()

    def _clear(self) -> None:
        if self._keeper is not None:
            self._keeper.join()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._log is not None:
            self._log.close()
        self._process = self._log = self._keeper = None
