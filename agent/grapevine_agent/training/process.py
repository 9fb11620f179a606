"""A trainer process as the service holds it: how it is started, watched while it works, and how it ended.

What the process is given is what it needs: three descriptors, and of the environment no more than its
libraries look at (a broker's password may be in ours). What it prints goes to our log as plain text, and
not without end: who prints `MOST_PRINTED_BYTES` is killed. Its children, if it could have any, die with it,
and nothing waits for what they hold open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from typing import Final

import psutil

from grapevine_agent.training.requests import Answer, Request, from_line, to_line
from grapevine_proto.errors import TaskError

logger = logging.getLogger(__name__)

WATCH_EVERY_S: Final = 0.5
IDLE_CPU_S: Final = 10.0  # after its answer a process has this much to tidy up with, then it must be asked again
MAX_LOG_LINES: Final = 200
MOST_PRINTED_BYTES: Final = 2**24
_LAST_WORDS_S: Final = 1.0  # after its end what it printed is read for so long
_MAX_LINE: Final = 2_000
_WORKER = "grapevine_agent.training.worker"
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV")
_ENVIRONMENT_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH_"),
    *("DNNL_", "ONEDNN_", "MALLOC_", "GLIBC_"),
)


class TrainerProcess:
    """One worker process and the socket pair to it. Made by `start`; to be ended by `end`."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, printed_fd: int
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._killed = ""  # why we killed it
        self._last_line = ""  # that it printed
        self._is_over = False  # it has ended, and so has what it had started
        self._cpu_limit_s = 0.0
        self._cpu_before_s = 0.0
        self.allow_cpu(IDLE_CPU_S)
        self._log = asyncio.create_task(self._pass_on(printed_fd), name=f"log of trainer {process.pid}")
        self._watch = asyncio.create_task(self._watch_cpu(), name=f"watch of trainer {process.pid}")

    @classmethod
    async def start(cls, memory_fd: int, *, num_threads: int, nice: int) -> TrainerProcess:
        """Start a process that shares the memory of `memory_fd`. Raises TaskError when it cannot be started."""
        ours, theirs = socket.socketpair()
        # A pipe of our own: asyncio's would keep us waiting for whoever else has it open.
        printed_fd, prints_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(prints_fd, True)
        fds = (theirs.fileno(), memory_fd)
        arguments = map(str, (*fds, os.getpid(), nice))
        try:
            # -P: nothing that lies in the working directory is imported.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _WORKER, *arguments),
                stdin=DEVNULL,
                stdout=prints_fd,
                stderr=STDOUT,
                pass_fds=fds,
                env=environment_for(os.environ, num_threads),
                start_new_session=True,  # Ctrl-C is for the service, which then ends the trainer
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except (OSError, asyncio.CancelledError) as error:
            ours.close()  # which ends the process, if there is one
            os.close(printed_fd)
            if isinstance(error, OSError):
                raise TaskError(f"cannot start a trainer process: {error}") from error
            raise
        finally:
            theirs.close()
            os.close(prints_fd)
        return cls(process, reader, writer, printed_fd)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def allow_cpu(self, limit_s: float) -> None:
        """From now on the process may use so many seconds of CPU, all threads together; then it is killed."""
        self._cpu_before_s, self._cpu_limit_s = self._cpu_s(), limit_s

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. Raises TaskError when the process dies over it, or says nothing sensible."""
        line = b""
        try:
            with contextlib.suppress(ConnectionError):  # it died: its exit status says more
                self._writer.write(to_line(request))
                await self._writer.drain()
                line = await self._reader.readline()
        except ValueError as error:  # a line without an end
            raise TaskError("the trainer's answer is longer than an answer can be") from error
        if not line:
            raise TaskError(f"the trainer died: {self._killed or await self._how_it_ended()}")
        answer = from_line(line)
        if not isinstance(answer, Answer):
            raise TaskError(f"the trainer answered with {type(answer).__name__}")
        return answer

    def kill(self) -> None:
        """Kill the process and whatever it has started: none of them has anything to save."""
        if self._is_over:
            return  # the number of a group that has gone may be somebody else's by now
        self._is_over = not self.is_alive
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # it leads a session, and so a group, of its own

    async def end(self) -> None:
        """Kill the process, if it lives, and free what belonged to it."""
        self._writer.close()
        self.kill()
        await self._process.wait()
        self.kill()
        self._watch.cancel()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._log, _LAST_WORDS_S)
        await asyncio.gather(self._log, self._watch, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _how_it_ended(self) -> str:
        """Why, and the last that it printed if it ended by itself: with an error, that is the error."""
        returncode = await self._process.wait()
        if returncode > 0:
            await asyncio.wait([self._log], timeout=_LAST_WORDS_S)
            if self._last_line:
                return f"exit status {returncode}: {self._last_line}"
        return how_it_ended(returncode)

    async def _pass_on(self, printed_fd: int) -> None:
        """What the process prints goes to our log, as text that cannot steer a terminal, up to a number of lines."""
        with open(printed_fd, "rb", buffering=0) as pipe:  # noqa: ASYNC230 — it does not block
            reader = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
            with contextlib.closing(transport):
                await self._read_printed(reader)

    async def _read_printed(self, reader: asyncio.StreamReader) -> None:
        num_lines = num_bytes = 0
        while chunk := await reader.read(8192):
            num_bytes += len(chunk)
            if num_bytes > MOST_PRINTED_BYTES:
                self._kill_for(f"printed more than {MOST_PRINTED_BYTES:,} bytes")
                return
            for line in chunk.decode(errors="replace").splitlines():
                num_lines += 1
                self._last_line = plain(line).strip() or self._last_line
                if num_lines <= MAX_LOG_LINES:
                    logger.info("trainer %d: %s", self.pid, plain(line))
                elif num_lines == MAX_LOG_LINES + 1:
                    logger.warning("trainer %d prints too much: what follows is dropped", self.pid)

    def _kill_for(self, why: str) -> None:
        self._killed = f"killed: {why}"
        logger.warning("trainer %d: %s", self.pid, self._killed)
        self.kill()

    async def _watch_cpu(self) -> None:
        """Until it ends; then its children are killed."""
        while self.is_alive:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._cpu_s() - self._cpu_before_s > self._cpu_limit_s:
                self._kill_for(f"used more than {self._cpu_limit_s:g} s of CPU")
                break
        await self._process.wait()
        self.kill()

    def _cpu_s(self) -> float:
        try:
            used = psutil.Process(self.pid).cpu_times()
        except psutil.Error:  # it is gone, or about to be
            return 0.0
        return float(used.user + used.system)


def environment_for(environ: Mapping[str, str], num_threads: int) -> dict[str, str]:
    """What of our environment a trainer process sees, and how many threads its libraries start."""
    passed = {
        name: value for name, value in environ.items() if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    threads = str(num_threads)
    # numpy's OpenBLAS prepares samples at most, and its threads would be there before the sandbox is closed.
    return {**passed, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"}


def plain(text: str) -> str:
    """A text of the process as one printable line of bounded length."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_MAX_LINE])


def how_it_ended(returncode: int) -> str:
    """Why a process ended, for people."""
    if returncode == -signal.SIGKILL:
        return "killed, perhaps by the kernel for lack of memory"
    if returncode == -signal.SIGSYS:
        return (
            "it made a system call that it may not make (SIGSYS); in a systemd unit, write "
            "SystemCallErrorNumber=EPERM beside SystemCallFilter="
        )
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"exit status {returncode}; see the log"
