"""The process that keeps a lab: `python -m grapevine_lab.testbed.keeper FOLDER`.

It alone uses the lab's engine, from one thread, and does what commands ask for at its socket. Its standard input is a
pipe of the command that makes the lab: should that end before it has said `adopt`, everything is removed. SIGTERM ends
it in an orderly way, and the machines with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from grapevine_agent.control.server import ControlServer
from grapevine_lab.testbed.engine import Engine, Machine
from grapevine_lab.testbed.engines import make_engine
from grapevine_lab.testbed.recording import recorded
from grapevine_lab.testbed.store import Lab
from grapevine_proto.errors import GrapevineError, RequestError

T = TypeVar("T")

logger = logging.getLogger(__name__)
RECORDER_LOG: Final = "recorder.log"
HEARD_S: Final = 120.0
POLL_S: Final = 0.1
GOODBYE_S: Final = 5.0
ANSWER_S: Final = 0.2  # in which the last answer is on its way
SIMPLE: Final = ("start", "stop", "kill", "pause", "resume", "restart")


class Keeper:
    """See the module's docstring. `answer` is what its socket answers with."""

    def __init__(self, lab: Lab, engine: Engine) -> None:
        self._lab = lab
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._shapes: dict[str, tuple[float, float]] = {}  # of each machine: ms, kbit/s
        self._cuts: set[tuple[str, str]] = set()
        self._is_listening = False
        self._beside: list[subprocess.Popen[bytes]] = []
        self._is_adopted = False
        self.ending = asyncio.Event()

    async def answer(self, request: dict[str, Any]) -> Any:
        """Do what a command asks for. Raises `GrapevineError` for what does not work."""
        method, params = str(request["method"]), request["params"]
        if method in SIMPLE:
            machine = self._lab.machine(str(params["machine"]))
            await self._simple(method, machine)
            return {"machine": machine.name, "state": await self._do(lambda: self._engine.state(machine.name))}
        known: dict[str, Callable[..., Any]] = {
            "check": self._check,
            "hosts": self._hosts,
            "states": self._states,
            "logs": self._logs,
            "shape": self._shape,
            "cut": self._cut,
            "heal": self._heal,
            "drop": self._drop,
            "listen": self._listen,
            "recorded": self._recorded,
            "beside": self._run_beside,
            "adopt": self._adopt,
            "down": self._down,
        }
        if method not in known:
            raise RequestError(f"unknown method {method!r}; known: {', '.join((*SIMPLE, *known))}")
        return await known[method](**params)

    async def _do(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    # --- machines ---------------------------------------------------------------------------------

    async def _simple(self, method: str, machine: Machine) -> None:
        engine = self._engine
        is_new = method == "restart" and await self._do(lambda: engine.state(machine.name)) == "absent"
        if method == "start" or is_new:
            await self._do(lambda: engine.start(machine))
        else:
            await self._do(lambda: getattr(engine, method)(machine.name))
        if method in ("start", "restart") and machine.name in self._shapes:
            await self._apply_shape(machine.name)

    async def _check(self) -> None:
        await self._do(lambda: self._engine.check(self._lab.machines))

    async def _hosts(self) -> dict[str, Any]:
        """Where each machine, and this host (""), reaches the brokers that it talks to."""

        def find() -> dict[str, Any]:
            lab, engine = self._lab, self._engine
            found: dict[str, dict[str, tuple[str, int]]] = {"": {}}
            for broker in lab.brokers:
                found[""][broker.name] = engine.host_of(broker, seen_by=None)
            for machine in lab.machines:
                found[machine.name] = {
                    name: engine.host_of(lab.machine(name), seen_by=machine) for name in machine.brokers
                }
            return {"listens_on": engine.listens_on, "hosts": found}

        return await self._do(find)

    async def _states(self) -> dict[str, Any]:
        """How all machines are, what is cut, and how lines are shaped."""
        states = await self._do(lambda: {each.name: self._engine.state(each.name) for each in self._lab.machines})
        return {"states": states, "cuts": sorted(self._cuts), "shapes": self._shapes}

    async def _logs(self, machine: str, tail: int | None = None) -> str:
        name = self._lab.machine(machine).name
        return await self._do(lambda: self._engine.logs(name, tail))

    # --- lines ------------------------------------------------------------------------------------

    async def _shape(
        self, machine: str, delay_ms: float | None = None, kbit_per_s: float | None = None
    ) -> dict[str, Any]:
        """Change what is given, and leave the other as it is."""
        name = self._lab.machine(machine).name
        before = self._shapes.get(name, (0.0, 0.0))
        self._shapes[name] = (
            before[0] if delay_ms is None else delay_ms,
            before[1] if kbit_per_s is None else kbit_per_s,
        )
        await self._apply_shape(name)
        return {"machine": name, "delay_ms": self._shapes[name][0], "kbit_per_s": self._shapes[name][1]}

    async def _apply_shape(self, name: str) -> None:
        delay_ms, kbit_per_s = self._shapes[name]
        await self._do(lambda: self._engine.lines.shape(name, delay_ms=delay_ms, kbit_per_s=kbit_per_s))

    async def _cut(self, pairs: list[list[str]]) -> list[tuple[str, str]]:
        cut = {(self._lab.machine(machine).name, self._lab.machine(broker).name) for machine, broker in pairs}
        await self._do(lambda: self._engine.lines.cut(sorted(cut)))
        self._cuts |= cut
        return sorted(cut)

    async def _heal(self, pairs: list[list[str]] | None = None) -> list[tuple[str, str]]:
        healed = self._cuts & {(a, b) for a, b in pairs} if pairs is not None else set(self._cuts)
        await self._do(lambda: self._engine.lines.heal(sorted(healed) if pairs is not None else None))
        self._cuts -= healed
        return sorted(healed)

    async def _drop(self, machine: str) -> None:
        name = self._lab.machine(machine).name
        await self._do(lambda: self._engine.lines.drop(name))

    # --- listening --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Have all that passes the brokers, and all that agents tell, written down. Returns when brokers are heard."""
        if self._is_listening:
            return
        self._is_listening = True
        hosts = await self._do(lambda: [self._engine.host_of(each, seen_by=None) for each in self._lab.brokers])
        urls = [f"mqtt://{host}:{port}" for host, port in hosts]
        command = [sys.executable, "-m", "grapevine_lab.testbed.recorder", str(self._lab.folder), *urls]
        await self._run_beside(command, RECORDER_LOG)
        async with asyncio.timeout(HEARD_S):
            while recorded(self._lab.folder) is None:
                await asyncio.sleep(POLL_S)

    async def _recorded(self) -> dict[str, Any]:
        """How many rounds each peer id says that it has behind it, and how much was written down."""
        return recorded(self._lab.folder) or {"rounds": {}, "num": 0}

    # --- beginning and ending ---------------------------------------------------------------------

    async def _run_beside(self, command: list[str], log: str) -> dict[str, int]:
        """Start a process that is to live as long as the lab, such as its dashboard."""
        leash = [sys.executable, "-m", "grapevine_broker.leash", str(os.getpid())]

        def start() -> subprocess.Popen[bytes]:
            with (self._lab.folder / log).open("ab") as file:
                return subprocess.Popen(
                    [*leash, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )

        process = await self._do(start)
        self._beside.append(process)
        return {"pid": process.pid}

    async def _adopt(self) -> None:
        """The command has done its part: the lab stays when it ends."""
        self._is_adopted = True

    async def _down(self) -> None:
        self._is_adopted = True  # what its machines have left is whoever's who asked for it
        await self.remove()
        asyncio.get_running_loop().call_later(ANSWER_S, self.ending.set)

    async def abandoned(self) -> None:
        """The command has ended. Without its word, everything goes."""
        if not self._is_adopted:
            logger.warning("the command that made this lab has ended: everything is removed")
            await self.remove()
            self._lab.remove()
            self.ending.set()

    async def remove(self) -> None:
        """End what belongs to the lab."""
        for process in self._beside:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await self._do(self._engine.remove)
        for process in self._beside:
            await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def keep(folder: Path) -> None:
    """Keep the lab in `folder` until it is taken down."""
    lab = Lab.read(folder)
    keeper = Keeper(lab, make_engine(lab.engine, lab.folder, lab.name))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.ending.set)
    async with ControlServer(lab.keeper, keeper.answer):
        watching = asyncio.create_task(_watch_command(keeper), name="watch of the command")
        await keeper.ending.wait()
        watching.cancel()
        await keeper.remove()


async def _watch_command(keeper: Keeper) -> None:
    reader = asyncio.StreamReader()
    with os.fdopen(sys.stdin.fileno(), "rb", closefd=False) as pipe:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        await reader.read()
    await keeper.abandoned()


def main() -> None:
    """The process's own main."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(keep(Path(sys.argv[1])))
    except GrapevineError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
