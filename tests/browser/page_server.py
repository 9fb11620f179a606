"""The page's files and a made swarm over HTTP, with the headers of the real server: for looking at, and for the tests.

To look at it: `python -m tests.browser.page_server --peers 200 --brokers 3`.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.browser.made_swarm import MadeSwarm

from grapevine_agent.dashboard.guarding import HEADERS

STATIC = Path(__file__).parents[2] / "agent" / "grapevine_agent" / "dashboard" / "static"
TOKEN = "a-token-of-the-tests"
WRONG = "an action needs the token: open the page by the address for actions that was printed at the start"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass
class Stage:
    """What is served: a swarm, what is to be told next, and what the page has asked for."""

    swarm: MadeSwarm
    told: list[dict[str, Any]] = field(default_factory=list)
    posted: list[tuple[str, str | None, Any]] = field(default_factory=list)
    num_streams: int = 0
    turn: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""
    token: str = TOKEN
    is_over: bool = False
    is_away: bool = False  # streams are refused, as while a server starts again

    def has_news(self, place: int, streams: int) -> bool:
        return len(self.told) > place or self.num_streams != streams

    def tell(self, patch: dict[str, Any]) -> None:
        """Send one patch to every page that listens."""
        with self.turn:
            self.told.append(patch)
            self.turn.notify_all()

    def advance(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.tell(self.swarm.advance())

    def hang_up(self) -> None:
        """End every stream, as a server that is restarted does."""
        with self.turn:
            self.num_streams += 1
            self.turn.notify_all()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stage: Stage

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """Say nothing."""

    def send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, answer: Any, status: int = 200) -> None:
        self.send(status, "application/json", json.dumps(answer).encode())

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/api/stream":
            if self.stage.is_away:
                self.send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"not yet")
            else:
                self.stream()
        elif path == "/api/check":
            if self.headers.get("Authorization") == f"Bearer {self.stage.token}":
                self.send(HTTPStatus.NO_CONTENT, "text/plain", b"")
            else:
                self.send_json({"ok": False, "error": WRONG}, 401)
        elif path == "/api/state":
            self.send_json(self.stage.swarm.snapshot())
        elif path.startswith("/api/peers/"):
            detail = self.stage.swarm.detail(path.rpartition("/")[2])
            self.send_json(detail or {"error": "no such peer"}, 200 if detail else 404)
        else:
            self.send_file("index.html" if path == "/" else path.removeprefix("/static/"))

    def send_file(self, name: str) -> None:
        file = (STATIC / name).resolve()
        if not file.is_relative_to(STATIC) or not file.is_file() or file.suffix not in KINDS:
            self.send(HTTPStatus.NOT_FOUND, "text/plain", b"no such file")
            return
        self.send(200, f"{KINDS[file.suffix]}; charset=utf-8", file.read_bytes())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        action = self.path.removeprefix("/api/actions/")
        given = self.headers.get("Authorization")
        self.stage.posted.append((action, given, body))
        if given != f"Bearer {self.stage.token}":
            self.send_json({"ok": False, "error": WRONG}, 401)
        else:
            self.send_json({"ok": True, "text": f"{action}: done"})

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        stage = self.stage
        try:
            with stage.turn:
                place, streams = len(stage.told), stage.num_streams
                self.say("state", stage.swarm.snapshot())
            while not stage.is_over and stage.num_streams == streams:
                with stage.turn:
                    stage.turn.wait_for(partial(stage.has_news, place, streams), timeout=0.5)
                    news, place = stage.told[place:], len(stage.told)
                for patch in news:
                    self.say("patch", patch)
        except OSError:
            pass
        self.close_connection = True

    def say(self, event: str, content: Any) -> None:
        self.wfile.write(f"retry: 500\nevent: {event}\ndata: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed hangs up; anything else is a fault of this file."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@contextmanager
def served(swarm: MadeSwarm, *, port: int = 0) -> Iterator[Stage]:
    """Serve the page at a free port of this machine, until the block ends."""
    stage = Stage(swarm)
    answers = type("AnswersOfOne", (Answers,), {"stage": stage})
    server = Server(("127.0.0.1", port), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    stage.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield stage
    finally:
        stage.is_over = True
        stage.hang_up()
        server.shutdown()
        server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the dashboard's page with a made swarm.")
    parser.add_argument("--peers", type=int, default=12)
    parser.add_argument("--brokers", type=int, default=2)
    parser.add_argument("--port", type=int, default=8766)
    asked = parser.parse_args()
    with served(MadeSwarm(asked.peers, num_brokers=asked.brokers), port=asked.port) as stage:
        print(f"{stage.url}  (actions: {stage.url}#token={TOKEN})")  # noqa: T201
        while True:
            time.sleep(0.25)
            stage.advance()
            del stage.posted[:-100]


if __name__ == "__main__":
    main()
