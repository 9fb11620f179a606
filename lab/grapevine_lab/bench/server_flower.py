"""Flower's server beside ours: its own functions in a process of its own environment, asked in turns with ours."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from grapevine_lab.bench_simulator.peers import Peer
from grapevine_proto.errors import GrapevineError
from grapevine_proto.messages import Vector

FLOWER: Final = Peer(
    distribution="flwr",
    version="1.42.0",
    probe="import flwr.app, flwr.server.strategy.aggregate, flwr.serverapp.strategy.strategy_utils",
    named=("flwr",),
    needs_torch=False,
)
SCRIPT: Final = Path(__file__).with_name("server_in_flower.py")
ANSWER_S: Final = 120.0
ENDING_S: Final = 10.0


class NoAnswerError(GrapevineError):
    """The process beside ours has ended, or says nothing."""


@dataclass(kw_only=True)
class Beside:
    """A process that aggregates the same updates when it is asked to. `mean` is what it makes of them, float32 [p]."""

    process: subprocess.Popen[bytes]
    folder: Path
    mean: Vector

    def seconds(self, times: int) -> dict[str, float]:
        """CPU time of one aggregation, in each of its ways, of so many. Raises `NoAnswerError`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer, which does not come, tells why
            self.process.stdin.write(f"{times}\n".encode())
            self.process.stdin.flush()
        found: dict[str, float] = json.loads(_line(self.process, self.folder))
        return found


@contextmanager
def beside(python: Path, updates: Sequence[Vector], folder: Path, script: Path) -> Iterator[Beside]:
    """Start `script` with `python`, given these updates by way of `folder`. Raises `NoAnswerError`."""
    np.save(folder / "updates.npy", np.stack(updates))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), "-I", str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
        )
        try:
            _line(process, folder)
            yield Beside(process=process, folder=folder, mean=np.load(folder / "mean.npy"))
        finally:
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _line(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The next line of its output: it says no more than it was asked for, so none lies in the buffer."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], ANSWER_S)
    line = process.stdout.readline().decode() if readable else ""
    if not line:
        said = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        why = said[0] if said else f"no word in {ANSWER_S:g} s" if not readable else "it ended without a word"
        raise NoAnswerError(f"Flower's process gives no answer: {why}")
    return line
