"""`[[trainer]]`: trainers of the owner's own, beside the agent, for a task or for a kind of data.

Only the owner's file names them. A URL of another machine must be asked for, as models then cross a
network: `allow_remote = true`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.net.urls import is_loopback

_HINT: Final = '"unix:///run/my-trainer.sock" or "http://127.0.0.1:9000"'
_LEAST_PREFIX: Final = 6  # characters of a task's id
_LONGEST_SOCKET_PATH: Final = 107  # sun_path


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """One trainer and what it is for: a task (its name, or the beginning of its id) or else a kind of data."""

    url: str
    task: str = ""
    kind: str = ""

    def takes(self, *, task: str, name: str, kind: str) -> bool:
        """Whether this trainer is for a task with this id, name and kind of data."""
        if self.task:
            is_prefix = re.fullmatch(f"[0-9a-f]{{{_LEAST_PREFIX},64}}", self.task) is not None
            return name == self.task or (is_prefix and task.startswith(self.task))
        return kind == self.kind


def choose_trainer(trainers: Sequence[TrainerConfig], *, task: str, name: str, kind: str) -> TrainerConfig | None:
    """The trainer for a task: one that names it before one for its kind of data; None for the agent's own."""
    fitting = [trainer for trainer in trainers if trainer.takes(task=task, name=name, kind=kind)]
    return min(fitting, key=lambda trainer: not trainer.task, default=None)


def read_trainers(tables: Sequence[Table]) -> tuple[TrainerConfig, ...]:
    """Read and check all `[[trainer]]`. Raises `ConfigError`."""
    found = tuple(_read(table) for table in tables)
    for table in tables:
        table.finish()
    return found


def _read(table: Table) -> TrainerConfig:
    url = table.text("url", hint=_HINT)
    task = table.text("task", "", max_length=200)
    kind = table.text("kind", "", pattern=r"|[a-z0-9-]{1,64}", hint='"digits-8x8"')
    if bool(task) == bool(kind):
        table.wrong("task", "say what this trainer is for: either task = … or kind = …, not both", beside=["kind"])
    allow_remote = table.boolean("allow_remote", False)
    with table.apart():
        _check_url(table, url, allow_remote=allow_remote)
    return TrainerConfig(url=url, task=task, kind=kind)


def _check_url(table: Table, url: str, *, allow_remote: bool) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise table.error("url", f"is no URL ({error}); write url = {_HINT}") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise table.error("url", f"holds more than where the trainer listens; write url = {_HINT}")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or len(parts.path.encode()) > _LONGEST_SOCKET_PATH:
            raise table.error("url", 'needs the whole path of a socket; write url = "unix:///run/my-trainer.sock"')
        return
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or port == 0:
        raise table.error("url", f"is no trainer's URL; write url = {_HINT}")
    if not allow_remote and not is_loopback(parts.hostname):
        raise table.error(
            "url", "is another machine, and models would cross the network to it; if that is meant: allow_remote = true"
        )
