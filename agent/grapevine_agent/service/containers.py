"""Containers of applications, by the Docker command: what the core asks for is run, watched and removed.

Each call is a process of its own, with a deadline; calls go one after the other. Who ends one does not end what the
engine does for it: so a container is created first, which may take minutes, and started by a call of its own. One of
which the service heard no more by its end does not run. A container of ours

    has no privileges      all capabilities dropped, none to be gained, its file system read only but for a small /tmp
    has limits             of memory without swap, processor and processes, and of what it may log
    is named by a digest   the engine checks it
    has no network         unless it is a service, whose allowed ports are published on the owner's address
    lives with the service what an earlier one left behind is removed first, and all of them when it ends, last of all
                           and within some seconds: what an engine that hangs keeps, the next start removes

Whether an image may run at all was decided before (`core/apps/running.py`), and is looked at here once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from typing import Final

from grapevine_agent.config.engine import EngineConfig
from grapevine_agent.core import effects as fx
from grapevine_proto.application import Container

logger = logging.getLogger(__name__)

PULL_S: Final = 600.0  # an image may have to come first
CALL_S: Final = 60.0
LOOK_EVERY_S: Final = 10.0
_HINTS: Final = ("Run ", "See ", "Usage:")  # at the help of a command
END_S: Final = 5.0  # of the ten that systemd gives the service
KILLED_S: Final = 1.0  # until a command that was killed is gone; who has inherited its output may keep it open
STOP_AFTER_S: Final = 5  # asked to end, and then killed
MOST_PROCESSES: Final = 128
LABEL: Final = "grapevine"
MOST_OUTPUT: Final = 100_000
Told = Callable[[str, bool, str], None]  # a key, whether it runs, and why not


class EngineError(Exception):
    """What the engine says is in the way."""


class Engine:
    """See the module's docstring. `tell` is set by the service before anything is asked for."""

    def __init__(self, config: EngineConfig, peer: str) -> None:
        self._config = config
        self._peer = peer
        self._queue: asyncio.Queue[fx.RunContainer | fx.EndContainer] = asyncio.Queue()
        self._names: dict[str, str] = {}  # key → the container's name, of those that were started
        self.tell: Told = lambda _key, _runs, _why: None

    def take(self, effect: fx.RunContainer | fx.EndContainer) -> None:
        """Do it, after what was asked before."""
        self._queue.put_nowait(effect)

    async def run(self) -> None:
        """Do what is asked for, and look after what runs, until cancelled. What runs then is for `end`."""
        await self._remove_ours()
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    effect = await self._queue.get()
            except TimeoutError:
                await self._look()
                continue
            match effect:
                case fx.RunContainer():
                    await self._run(effect)
                case fx.EndContainer(key=key):
                    await self._end(key)

    async def end(self) -> None:
        """Remove all that runs, once `run` has ended, as far as the engine does that in time."""
        try:
            async with asyncio.timeout(END_S):
                await self._remove_ours()
        except TimeoutError:
            logger.warning("the engine has not removed our containers in %.0f s: the next start does", END_S)

    async def _run(self, effect: fx.RunContainer) -> None:
        if effect.container.image not in self._config.allow_images:
            self.tell(effect.key, False, "its image is not allowed here")
            return
        name = name_of(self._peer, effect.key)
        try:
            await self._call("rm", "--force", name, may_fail=True)
            await self._call(*arguments(effect, name, self._peer, self._config), within_s=PULL_S)
            await self._call("start", name)
        except EngineError as error:
            logger.warning("%s does not start: %s", effect.key, error)
            with contextlib.suppress(EngineError):
                await self._call("rm", "--force", name, may_fail=True)
            self.tell(effect.key, False, str(error))
            return
        self._names[effect.key] = name
        logger.info("%s runs: container %s", effect.key, name)
        self.tell(effect.key, True, "")

    async def _end(self, key: str) -> None:
        name = self._names.pop(key, "")
        if not name:
            return
        try:
            await self._call("stop", "--time", str(STOP_AFTER_S), name, may_fail=True)
            await self._call("rm", "--force", name, may_fail=True)
        except EngineError as error:
            logger.warning("container %s is not removed: %s", name, error)
        else:
            logger.info("%s has ended: container %s is removed", key, name)

    async def _look(self) -> None:
        if not self._names:
            return
        try:
            said = await self._call("ps", "--all", "--filter", self._ours(), "--format", "{{.Names}}\t{{.Status}}")
        except EngineError as error:
            logger.warning("the engine does not answer: %s", error)
            return
        status = dict(line.split("\t", 1) for line in said.splitlines() if "\t" in line)
        for key, name in list(self._names.items()):
            if status.get(name, "").startswith("Up"):
                self.tell(key, True, "")
                continue
            why = await self._last_words(name, status.get(name, "it was removed by somebody else"))
            await self._end(key)
            self.tell(key, False, why)

    async def _last_words(self, name: str, status: str) -> str:
        with contextlib.suppress(EngineError):
            logged = (await self._call("logs", "--tail", "1", name, may_fail=True)).strip()
            return f"{status}; its last line: {logged[-200:]}" if logged else status
        return status

    async def _remove_ours(self) -> None:
        self._names.clear()
        try:
            names = (await self._call("ps", "--all", "--quiet", "--filter", self._ours())).split()
            if names:
                await self._call("rm", "--force", *names)
        except EngineError as error:
            logger.warning("the engine does not say what runs: %s", error)

    def _ours(self) -> str:
        return f"label={LABEL}.peer={self._peer}"

    async def _call(self, *words: str, within_s: float = CALL_S, may_fail: bool = False) -> str:
        """What the command prints. Raises `EngineError` with what it says is wrong, unless it `may_fail`."""
        command = self._config.command
        try:
            process = await asyncio.create_subprocess_exec(
                command,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise EngineError(
                f"{command} cannot be run ({error.strerror}): install it, or correct [engine] command"
            ) from None
        try:
            async with asyncio.timeout(within_s):
                out, errors = await process.communicate()
        except TimeoutError:
            raise EngineError(f"{command} {words[0]} has not answered in {within_s:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KILLED_S):
                        await process.wait()
        said = errors[-MOST_OUTPUT:].decode("utf-8", "replace").strip()
        if process.returncode and not may_fail:
            raise EngineError(reason_of(said) or f"{command} {words[0]} ended with {process.returncode}")
        text = out[-MOST_OUTPUT:].decode("utf-8", "replace")
        return f"{text}{said}" if words[0] == "logs" else text


def reason_of(said: str) -> str:
    """What an engine's command complained of: its last line, but for hints at its own help."""
    lines = [line.strip() for line in said.splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith(_HINTS)), "")


def name_of(peer: str, key: str) -> str:
    """What the container of a component is called, on a machine where other agents may run some, too."""
    return f"grapevine-{peer[:8]}-{key.rsplit('/', 1)[-1][:32]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def arguments(effect: fx.RunContainer, name: str, peer: str, config: EngineConfig) -> list[str]:
    """The words of `docker create`: limits and no privileges, whatever the application says."""
    container: Container = effect.container
    author, application, component = effect.key.split("/")
    memory = f"{container.memory_mb}m"
    words = ["create", "--name", name, "--restart", "no", "--init"]
    for label, value in (
        ("peer", peer),
        ("author", author),
        ("application", application),
        ("component", component),
        ("id", effect.application),
    ):
        words += ["--label", f"{LABEL}.{label}={value}"]
    words += ["--memory", memory, "--memory-swap", memory, "--cpus", f"{container.cpu_thousandths / 1000:g}"]
    words += ["--pids-limit", str(MOST_PROCESSES), "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    words += ["--read-only", "--tmpfs", "/tmp:rw,noexec,nosuid,size=16m"]  # noqa: S108 - the container's own
    words += ["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2"]
    words += [] if container.ports else ["--network", "none"]
    for port in container.ports:
        words += ["--publish", f"{config.publish_on}:{port}:{port}/tcp"]
    for variable, value in container.environment:
        words += ["--env", f"{variable}={value}"]
    return [*words, container.image, *container.command]
