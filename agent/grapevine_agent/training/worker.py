"""The trainer process: `python -m grapevine_agent.training.worker CONTROL_FD MEMORY_FD PARENT_PID NICE`.

It holds PyTorch so that the service does not have to, and whatever a task's program does to it, the
service goes on. It bounds its memory, loads the samples and PyTorch, then gives up its rights (`sandbox`), and
only then looks at the program. It ends when the service does: a thread waits for the control socket to close even
while training keeps the main thread busy, and the kernel is asked to kill it with its parent.
"""

from __future__ import annotations

import base64
import logging
import math
import os
import queue
import resource
import socket
import sys
import threading
from contextlib import suppress
from io import BufferedReader
from typing import TYPE_CHECKING

from grapevine_agent.data.bounds import (
    GIVEN_BACK,
    KEPT_BY_GLIBC,
    MIB,
    TooLittleMemoryError,
    allowed,
    be_first_to_go,
    die_with,
    give_memory_back,
    memory_left,
    memory_limit,
    resident_bytes,
)
from grapevine_agent.data.formats import prepare_to_load
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_agent.training.requests import (
    Answer,
    Evaluated,
    EvaluateRequest,
    Failed,
    Ready,
    Request,
    Setup,
    Trained,
    TrainRequest,
    from_line,
    to_line,
)
from grapevine_agent.training.sandbox import close_sandbox, limit_leftovers, may_use_landlock
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_proto.errors import GrapevineError, TaskError
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_tasks.layout import ModelLayout

if TYPE_CHECKING:
    from grapevine_agent.training.local_training import LocalTrainer

logger = logging.getLogger(__name__)

BARE_SLACK_MB = 16  # by which a process before its samples differs from start to start, and what first steps add to it
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "malloc of size")


def main(arguments: list[str]) -> int:
    """Serve requests until the control socket closes."""
    control_fd, memory_fd, parent, niceness = map(int, arguments)
    die_with(parent)
    os.nice(niceness)
    be_first_to_go()
    limit_leftovers()
    with_landlock = may_use_landlock()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with socket.socket(fileno=control_fd) as control:
        lines = control.makefile("rb")
        setup = from_line(lines.readline() or b"{}")
        assert isinstance(setup, Setup)
        try:
            trainer, memory, ready = _prepare(setup, memory_fd, with_landlock=with_landlock)
        except Exception as error:  # what it is, the service is told in any case
            if not isinstance(error, GrapevineError):
                logger.exception("not ready to train")
            bare_mb = error.bare_mb if isinstance(error, TooLittleMemoryError) else 0
            control.sendall(to_line(Failed(number=0, reason=_reason(error, setup), fatal=True, bare_mb=bare_mb)))
            return 1
        requests: queue.SimpleQueue[Request | Answer] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(lines, requests), daemon=True).start()
        control.sendall(to_line(ready))
        while True:
            answer = _serve(requests.get(), trainer, memory, setup)
            control.sendall(to_line(answer))
            if isinstance(answer, Failed) and answer.fatal:
                return 1


def _listen(lines: BufferedReader, requests: queue.SimpleQueue[Request | Answer]) -> None:
    """Pass requests on; when there will be no more, end the process, whatever it is doing."""
    with suppress(OSError, TaskError):
        for line in lines:
            requests.put(from_line(line))
    os._exit(0)


def _prepare(setup: Setup, memory_fd: int, *, with_landlock: bool) -> tuple[LocalTrainer, SharedVectors, Ready]:
    """Bound the memory, load the samples, then PyTorch; bound what may still be taken; close the sandbox."""
    manifest, source = decode_manifest(base64.b64decode(setup.manifest)), DataSource.from_json(setup.source)
    begun = resident_bytes()
    prepare_to_load(source)
    with memory_limit(setup.memory_mb):
        give_memory_back(at_least=GIVEN_BACK)
        samples = load_samples(manifest.data, source, manifest.training.metric)
    give_memory_back(at_least=KEPT_BY_GLIBC)
    with_samples = resident_bytes()
    # PyTorch maps much that it never fills, so it is loaded without a limit; nothing of a stranger runs yet.
    from grapevine_agent.training.local_training import LocalTrainer  # noqa: PLC0415 — after what can fail cheaply
    from grapevine_agent.training.warm_up import warm_up  # noqa: PLC0415

    layout = ModelLayout.of(manifest.program)
    memory = SharedVectors(memory_fd, layout.num_parameters, layout.num_buffers)
    warm_up()
    bare_mb = math.ceil((begun + resident_bytes() - with_samples) / MIB) + BARE_SLACK_MB
    if setup.memory_mb:
        try:
            limit = allowed(resource.RLIMIT_DATA, memory_left(setup.memory_mb))
        except TooLittleMemoryError as error:
            error.bare_mb = bare_mb
            raise
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    protection = close_sandbox("off" if setup.sandbox == "off" else "strict", with_landlock=with_landlock)
    logger.info("sandbox: %s", protection)
    trainer = LocalTrainer(manifest.program, manifest.training, samples, seed=setup.seed, num_threads=setup.num_threads)
    ready = Ready(
        num_samples=len(samples.x),
        num_test=len(samples.x_test),
        protection=protection,
        bare_mb=bare_mb,
        baseline=samples.baseline.value if samples.baseline is not None else None,
        baseline_name=samples.baseline.name if samples.baseline is not None else "",
        unit=samples.unit,
    )
    return trainer, memory, ready


def _serve(request: Request | Answer, trainer: LocalTrainer, memory: SharedVectors, setup: Setup) -> Answer:
    number = request.number if isinstance(request, TrainRequest | EvaluateRequest) else 0
    try:
        match request:
            case TrainRequest():
                result = trainer.train(*memory.read(number), request.num_steps, age=request.age)
                memory.write(number, result.parameters, result.buffers)
                return Trained(number=number, loss=result.loss, num_samples=result.num_samples)
            case EvaluateRequest():
                found = trainer.evaluate(*memory.read(number))
                return Evaluated(number=number, loss=found.loss, metric=found.metric, num_samples=found.num_samples)
            case _:
                return Failed(number=number, reason=f"unexpected {type(request).__name__}")
    except (TaskError, MemoryError, RuntimeError) as error:
        return Failed(number=number, reason=_reason(error, setup), fatal=_is_out_of_memory(error))
    except Exception as error:  # whatever a kernel makes of a stranger's program; among it what the sandbox refused
        logger.exception("request %d failed", number)
        return Failed(number=number, reason=_reason(error, setup), fatal=True)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def _reason(error: Exception, setup: Setup) -> str:
    if _is_out_of_memory(error):
        return f"out of memory: the task needs more than limits.memory_mb = {setup.memory_mb}"
    return str(error) if isinstance(error, GrapevineError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
