"""Asking the running service, or acting in its place where none runs.

A command that needs the broker talks to the running service, which owns the connection. Without a
service it connects by itself for as long as it takes, with the peer's identity and a client id of
its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from grapevine_agent.assembly import assembled, state_socket
from grapevine_agent.cli.output import tell
from grapevine_agent.config import Config
from grapevine_agent.control import NoServiceError, call
from grapevine_agent.requests import Requests
from grapevine_agent.service import AgentService
from grapevine_proto.errors import BrokerError, TaskError

CONNECT_S = 30.0
SETTLE_S = 5.0  # within which a broker has sent the records that it retains
FLUSH_S = 10.0
RETAINED_S = 1.5  # what a broker retains arrives in one go; nothing says when it is all there


def ask(config: Config, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service. Raises `NoServiceError` if there is none."""
    return call(state_socket(config), method, params)


def ask_or_connect(
    config: Config,
    method: str,
    params: dict[str, Any],
    *,
    linger: Callable[[AgentService, Any], bool] | None = None,
) -> Any:
    """Ask the running service, or connect for this one request.

    `linger` is called again and again with the service and the result, and says when the command may go;
    only then does it leave. It is not called when a running service answered.
    """
    try:
        return ask(config, method, params)
    except NoServiceError:
        tell(f"no agent is running here: connecting to {', '.join(config.mqtt.brokers)} for this command")
    return asyncio.run(_as_guest(config, method, params, linger))


async def _as_guest(
    config: Config, method: str, params: dict[str, Any], linger: Callable[[AgentService, Any], bool] | None
) -> Any:
    with assembled(config, guest=True) as service:
        running = asyncio.create_task(service.run())
        try:
            await _wait(service.ready.is_set, running, CONNECT_S)
            if not service.ready.is_set():
                raise BrokerError(f"{service.broker_trouble or 'no broker answers'}: nothing was sent")
            if method in ("reviews", "records", "revoke"):
                await asyncio.sleep(RETAINED_S)
            result = await _answer_when_known(Requests(service), method, params)
            await _wait(lambda: len(service.outbox) == 0, running, FLUSH_S)
            if linger is not None:
                await _wait(lambda: linger(service, result), running, math.inf)
            return result
        finally:
            service.stop()
            await running


async def _answer_when_known(requests: Requests, method: str, params: dict[str, Any]) -> Any:
    """Answer, giving the broker a moment to send the task that is asked about."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        try:
            return await requests.answer({"method": method, "params": params})
        except TaskError:
            if method == "publish" or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _wait(done: Callable[[], bool], running: asyncio.Task[None], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not done() and not running.done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)  # many conditions, few of them events; nobody notices 50 ms
