"""In place of the trainer process: it answers like one, and does what `$PYTHONMISBEHAVIOUR` names beside it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np

from grapevine_agent.training.requests import (
    Evaluated,
    EvaluateRequest,
    Ready,
    Setup,
    Trained,
    TrainRequest,
    from_line,
    to_line,
)


def main(behaviour: str, control_fd: int) -> None:
    with socket.socket(fileno=control_fd) as control:
        lines = control.makefile("rb")
        assert isinstance(from_line(lines.readline()), Setup)
        if behaviour == "never ready":
            time.sleep(1000)
        if behaviour == "ignores SIGTERM":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        if behaviour == "has a child":
            child = os.fork()
            if child == 0:
                time.sleep(1000)
            Path(os.environ["TMPDIR"], "child").write_text(str(child))
        control.sendall(to_line(Ready(num_samples=100, num_test=20)))
        for line in lines:
            request = from_line(line)
            assert isinstance(request, TrainRequest | EvaluateRequest)
            control.sendall(_answer(behaviour, request))


def _answer(behaviour: str, request: TrainRequest | EvaluateRequest) -> bytes:
    number = request.number
    match behaviour:
        case "prints without end":
            while True:
                sys.stderr.write("x" * 100_000)
        case "one line without end":
            return b"x" * 10_000_000
        case "another answer":
            return to_line(Ready(num_samples=1, num_test=1))
        case "an answer to something else":
            return to_line(Trained(number=number + 1, loss=0.0, num_samples=1))
        case "numbers that are none":
            return to_line(Evaluated(number=number, loss=float("nan"), metric=0.5, num_samples=20))
        case "a metric without end":
            return to_line(Evaluated(number=number, loss=0.5, metric=float("inf"), num_samples=20))
        case "more than there are":
            return to_line(Evaluated(number=number, loss=0.5, metric=0.5, num_samples=21))
        case "a poisoned model":
            memory = np.memmap(f"/proc/self/fd/{sys.argv[2]}", np.float32, "r+")
            memory[:] = np.nan
            return to_line(Trained(number=number, loss=0.5, num_samples=1))
        case "a model that is cut off":
            try:
                os.ftruncate(int(sys.argv[2]), 0)
            except PermissionError:
                return to_line(Trained(number=number, loss=0.5, num_samples=1))
            return b"cut\n"
        case "works for ever":
            time.sleep(1000)
    if isinstance(request, EvaluateRequest):
        return to_line(Evaluated(number=number, loss=0.5, metric=0.5, num_samples=20))
    return to_line(Trained(number=number, loss=0.5, num_samples=1))


if __name__ == "__main__":
    main(os.environ["PYTHONMISBEHAVIOUR"], int(sys.argv[1]))
