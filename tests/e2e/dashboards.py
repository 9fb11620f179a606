"""A dashboard's own process, as its users start it, and what its page asks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Shown:
    """A dashboard's process, and what it printed."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def get(self, target: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{target}", timeout=10) as answer:
            return json.load(answer)

    def act(self, name: str, **params: Any) -> Any:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Origin": self.url.rstrip("/"),
            "Content-Type": "application/json",
        }
        request = urllib.request.Request(
            f"{self.url}api/actions/{name}", data=json.dumps(params).encode(), headers=headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def state_of(self, name: str) -> str:
        return next((each["state"] for each in self.get("api/state")["peers"] if each["name"] == name), "")


@contextmanager
def dashboard(*options: str) -> Iterator[Shown]:
    own = [sys.executable, "-m", "grapevine_agent", "dashboard", "--port", "0", "--no-open", *options]
    words = ["env", "--default-signal=INT", *own]  # tests that run in the background have it ignored
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"dashboard: (http://127\.0\.0\.1:\d+/)  \(actions: \1#token=(\S+)\)\n", line)
        assert found, (line, process.stderr and process.stderr.read())
        yield Shown(process, found[1], found[2])
    finally:
        process.kill()
        process.communicate()
