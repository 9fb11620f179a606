"""What every broker that we start has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Protocol, Self

from grapevine_broker.child import ChildProcess
from grapevine_broker.probe import answers_mqtt

ANSWERS_WITHIN_S = 5.0


class RunningBroker(Protocol):
    """A broker of ours: start it, use its URL, stop it; or `with` it, started or not. Calls block for up to seconds."""

    @property
    def url(self) -> str:
        """Where clients on this machine reach it, e.g. `mqtt://127.0.0.1:41883`."""

    @property
    def pid(self) -> int:
        """Process id of the broker itself."""

    def start(self) -> None:
        """Return once it answers; BrokerError if it does not."""

    def stop(self) -> None:
        """End it in an orderly way."""

    def kill(self) -> None:
        """End it as a power cut would."""

    def restart(self) -> None:
        """Stop it and start it again on the same port."""

    def reload(self) -> None:
        """Read users and access rules again; nothing where there are none."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; its exit status, or None when it still runs after `timeout_s` seconds."""

    def answers(self) -> bool:
        """Whether it answers a client now; a refusal is an answer."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BrokerProcess(ABC):
    """The part of a broker that does not depend on its engine. Subclasses set `_child` and write `start()`."""

    name = "the broker"
    _child: ChildProcess

    def __init__(self, *, host: str, port: int, url_query: str = "") -> None:
        self.host = host
        self.port = port
        self._url_query = url_query

    @property
    def url(self) -> str:
        """Where clients on this machine reach it. Port 0 means that it has not been started yet."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"mqtt://{f'[{host}]' if ':' in host else host}:{self.port}{self._url_query}"

    @property
    def pid(self) -> int:
        """Process id of the broker itself; BrokerError while it does not run."""
        return self._child.pid

    @abstractmethod
    def start(self) -> None:
        """Start it; see the subclass."""

    def stop(self) -> None:
        """End it with SIGTERM, after 5 seconds with SIGKILL. Nothing happens if it does not run."""
        self._child.stop()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._child.kill()

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def reload(self) -> None:  # noqa: B027 - an engine without users has nothing to read again
        """Read users and access rules again; nothing where there are none."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; its exit status, or None when it still runs after `timeout_s` seconds."""
        return self._child.wait(timeout_s)

    def answers(self) -> bool:
        """Whether it answers a client now; a refusal is an answer."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return answers_mqtt(host, self.port, timeout_s=ANSWERS_WITHIN_S)

    def __enter__(self) -> Self:
        if not self._child.is_running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
