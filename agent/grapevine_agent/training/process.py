"""A trainer process as the service holds it: how it is started, watched while it works, and how it ended.

What the process is given is what it needs: three descriptors, and of the environment no more than its
libraries look at (a broker's password may be in ours). What it prints goes to our log as plain text, and
not without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from typing import Final

import psutil

from grapevine_agent.training.requests import Answer, Request, from_line, to_line
from grapevine_proto.errors import TaskError

logger = logging.getLogger(__name__)

WATCH_EVERY_S: Final = 0.5
IDLE_CPU_S: Final = 10.0  # after its answer a process has this much to tidy up with, then it must be asked again
MAX_LOG_LINES: Final = 200
_MAX_LINE: Final = 2_000
_WORKER = "grapevine_agent.training.worker"
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV")
_ENVIRONMENT_PREFIXES = (
    *("LC_", "LD_", "PYTHON", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH_"),
    *("DNNL_", "ONEDNN_", "MALLOC_", "GLIBC_"),
)


class TrainerProcess:
    """One worker process and the socket pair to it. Made by `start`; to be ended by `end`."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._killed = ""  # why we killed it
        self._cpu_limit_s = 0.0
        self._cpu_before_s = 0.0
        self.allow_cpu(IDLE_CPU_S)
        self._log = asyncio.create_task(_log(process), name=f"log of trainer {process.pid}")
        self._watch = asyncio.create_task(self._watch_cpu(), name=f"watch of trainer {process.pid}")

    @classmethod
    async def start(cls, memory_fd: int, *, num_threads: int, nice: int) -> TrainerProcess:
        """Start a process that shares the memory of `memory_fd`. Raises TaskError when it cannot be started."""
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), memory_fd)
        arguments = map(str, (*fds, os.getpid(), nice))
        try:
            # -P: nothing that lies in the working directory is imported.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _WORKER, *arguments),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                pass_fds=fds,
                env=environment_for(os.environ, num_threads),
                start_new_session=True,  # Ctrl-C is for the service, which then ends the trainer
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except OSError as error:
            ours.close()
            raise TaskError(f"cannot start a trainer process: {error}") from error
        except asyncio.CancelledError:
            ours.close()  # which ends the process, if there is one
            raise
        finally:
            theirs.close()
        return cls(process, reader, writer)

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
            raise TaskError(f"the trainer died: {self._killed or _cause(await self._process.wait())}")
        answer = from_line(line)
        if not isinstance(answer, Answer):
            raise TaskError(f"the trainer answered with {type(answer).__name__}")
        return answer

    def kill(self) -> None:
        """Kill the process, if it lives: it has nothing to save."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill the process, if it lives, and free what belonged to it."""
        self._writer.close()
        self.kill()
        await self._process.wait()
        self._watch.cancel()
        await asyncio.gather(self._log, self._watch, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _watch_cpu(self) -> None:
        while self.is_alive:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._cpu_s() - self._cpu_before_s > self._cpu_limit_s:
                self._killed = f"killed: used more than {self._cpu_limit_s:g} s of CPU"
                logger.warning("trainer %d: %s", self.pid, self._killed)
                self.kill()
                return

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


async def _log(process: Process) -> None:
    """What the process prints goes to our log, as text that cannot steer a terminal; the rest is read and dropped."""
    assert process.stdout is not None
    num_lines = 0
    while chunk := await process.stdout.read(8192):
        for line in chunk.decode(errors="replace").splitlines():
            num_lines += 1
            if num_lines <= MAX_LOG_LINES:
                logger.info("trainer %d: %s", process.pid, plain(line))
            elif num_lines == MAX_LOG_LINES + 1:
                logger.warning("trainer %d prints too much: what follows is dropped", process.pid)


def plain(text: str) -> str:
    """A text of the process as one printable line of bounded length."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_MAX_LINE])


def _cause(returncode: int) -> str:
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
