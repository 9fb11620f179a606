"""A process with an agent's control socket and nothing behind it: it tells what it is told to tell.

python -m tests.unit.agent.dashboard.scripted_agent SOCKET PEER NAME      events on stdin, one JSON object a line;
                                                                          what it is asked to do on stdout
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from grapevine_agent.control.server import ControlServer, Streamed
from grapevine_agent.core.events import KINDS
from grapevine_agent.core.moment import Moment
from grapevine_agent.service.telling import Telling
from grapevine_proto.errors import TaskError


def say(asked: list[Any]) -> None:
    sys.stdout.write(json.dumps(asked) + "\n")
    sys.stdout.flush()


async def main(path: Path, peer: str, name: str) -> None:
    began_ms = int(time.time() * 1e3)
    telling = Telling(peer, began_ms)
    status = {
        "name": name,
        "role": "member",
        "profile": "raspberry-pi-4b",
        "memory_mb": 91.5,
        "scope": {"site": "lakeside"},
        "governor": {"bytes_today": 5_000, "energy_j_today": 12.5, "temperature_c": 44.5, "held": []},
        "rejected": {"replayed": 3},
        "brokers": [{"url": "mqtt://hub.local:1883", "connected": True}],
        "tasks": [],
    }

    async def answer(request: dict[str, Any]) -> Any:
        method, params = request["method"], request["params"]
        if name == "nonsense" and method != "events":
            say([method, params])
            return ["nonsense", None]
        match method:
            case "events":
                return Streamed(result=telling.about | {"name": name}, lines=telling.listen(params["after"]))
            case "status":
                return status
            case "peers":
                known = {"name": "far away", "member": True, "alive": True, "asleep": False, "site": "", "brokers": []}
                return {"peers": [{"peer": "stranger", **known}, {"peer": peer, **known, "name": "somebody else"}]}
            case "reviews":
                return []
        say([method, params])
        if params.get("task") == "unknown":
            raise TaskError("unknown: there is no such task; look at `grapevine tasks`")
        return {"name": "digits"}

    async def take(reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            told = json.loads(line)
            telling.tell(KINDS[told.pop("event")](**told), Moment(time.monotonic(), int(time.time() * 1e3)))

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with ControlServer(path, answer):
        taking = asyncio.create_task(take(reader))
        await ended.wait()
        taking.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
