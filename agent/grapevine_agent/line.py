"""A line to a service: the one that runs here, or one that runs for as long as a command needs it.

`open_line` asks the running service through its socket. Where none runs, a guest is started in a thread
of its own: it connects with this peer's identity and a client id of its own, answers the same requests, and
leaves in good order when the line is closed. Either way `ask` is one question and one answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from grapevine_agent.config.agent_toml import Config, check_files
from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import SOCKET_FILE, NoServiceError
from grapevine_proto.errors import BrokerError, TaskError
from grapevine_proto.topics import is_task_id

if TYPE_CHECKING:
    from grapevine_agent.service.shell import AgentService

CONNECT_S = 30.0
SETTLE_S = 5.0  # within which a broker has sent the records that it retains
FLUSH_S = 10.0
RETAINED_S = 1.5  # what a broker retains arrives in one go; nothing says when it is all there
ANSWER_S = 60.0


class Line(Protocol):
    """Something that answers. `is_guest`: it lives for this command only."""

    is_guest: bool

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a method of `Requests`. Raises `GrapevineError`."""


class _SocketLine:
    is_guest = False

    def __init__(self, config: Config) -> None:
        self._socket = config.agent.state_dir / SOCKET_FILE

    def ask(self, method: str, **params: Any) -> Any:
        return call(self._socket, method, params, timeout_s=ANSWER_S)


class _GuestLine:
    is_guest = True

    def __init__(self, config: Config) -> None:
        self._started: Future[AgentService] = Future()
        self._thread = threading.Thread(target=self._run, args=(config,), name="guest", daemon=True)
        self._thread.start()
        self._service = self._started.result()
        self._connected_s = time.monotonic()

    def _run(self, config: Config) -> None:
        asyncio.run(self._serve(config))

    async def _serve(self, config: Config) -> None:
        from grapevine_agent.requests.dispatch import Requests  # noqa: PLC0415 - all of an agent: only where none runs
        from grapevine_agent.service.assembly import assembled  # noqa: PLC0415

        try:
            with assembled(config, guest=True) as service:
                self._loop, self._requests = asyncio.get_running_loop(), Requests(service)
                running = asyncio.create_task(service.run())
                try:
                    await _wait(lambda: service.ready.is_set() or service.attachments.all_refuse, running, CONNECT_S)
                    if not service.ready.is_set():
                        trouble = (
                            service.attachments.trouble or f"no broker answers at {', '.join(config.mqtt.brokers)}"
                        )
                        remedy = (
                            ""
                            if service.attachments.all_refuse
                            else "; start a broker there, or name another in [mqtt] brokers"
                        )
                        raise BrokerError(f"{trouble}: nothing was sent{remedy}")
                    self._started.set_result(service)
                    await running
                finally:
                    service.stop()
                    await running
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    def ask(self, method: str, **params: Any) -> Any:
        if _needs_all(method, params):
            time.sleep(max(0.0, self._connected_s + RETAINED_S - time.monotonic()))
        return asyncio.run_coroutine_threadsafe(self._answer_when_known(method, params), self._loop).result()

    async def _answer_when_known(self, method: str, params: dict[str, Any]) -> Any:
        """Answer, giving the broker a moment to send the task that is asked about."""
        while True:
            try:
                return await self._requests.answer({"method": method, "params": params})
            except TaskError:
                if method in ("publish", "apply") or time.monotonic() > self._connected_s + SETTLE_S:
                    raise
                await asyncio.sleep(0.2)

    def close(self) -> None:
        """Send what is still to be sent, say goodbye, and end."""
        deadline_s = time.monotonic() + FLUSH_S
        try:
            while self._service.attachments.num_unsent and time.monotonic() < deadline_s:
                time.sleep(0.05)
        finally:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._service.stop)
            self._thread.join()


def _needs_all(method: str, params: Mapping[str, Any]) -> bool:
    """Whether an answer is right only once all that a broker retains is here.

    So it is for a name, or the beginning of an id: the first task that it fits need not be the only one.
    """
    wanted = params.get("task", params.get("parent"))
    looked_up = isinstance(wanted, str) and not is_task_id(wanted)
    of_apps = ("apps", "explain", "delete", "apply", "would_place", "resolve")  # what is there already bears on it
    return looked_up or method in ("reviews", "records", "revoke", "revise", *of_apps)


@contextmanager
def open_line(config: Config, *, tell: Callable[[str], None] = lambda _text: None) -> Iterator[Line]:
    """A line to the running service, else to a guest. Raises `BrokerError` if no broker takes the guest in.

    A file that the guest needs, such as a password's, and that is not there is a `ConfigError`.

    `tell` is given one line of text when there is something to wait for.
    """
    try:
        call(config.agent.state_dir / SOCKET_FILE, "status", {})
    except NoServiceError:
        check_files(config)  # before anything is said of a connection: there would be none
        tell(f"no agent is running here: connecting to {', '.join(config.mqtt.brokers)} for this command")
    else:
        yield _SocketLine(config)
        return
    guest = _GuestLine(config)
    try:
        yield guest
    finally:
        guest.close()


async def _wait(done: Callable[[], bool], running: asyncio.Task[None], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not done() and not running.done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)  # many conditions, few of them events; nobody notices 50 ms
