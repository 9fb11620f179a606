"""Who does jobs: this process, or worker processes that share its memory.

Worker processes each train with one thread. On a machine with as many cores as workers that is faster
than one process with many threads, since the operators of a small model are too short to be divided, and
it gives the same bits whatever their number.

Whoever gives errands goes on meanwhile: workers do what was begun beside it, and hand over what is done when it
begins more, or waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Protocol

import numpy as np

from grapevine_lab.simulator.training.jobs import Answer, Engine, Job, Models, do
from grapevine_lab.simulator.training.messages import Failed, Task
from grapevine_lab.simulator.training.sharing import Shared
from grapevine_proto.errors import GrapevineError

WORKER = "grapevine_lab.simulator.training.worker"
SLOTS_PER_WORKER = 2  # it has its next job before it is done with the last
_PATIENCE_S = 5.0  # for a worker to end
# One thread, and memory that is given back to the kernel costs a page fault each time it is wanted again.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


class Errand(Protocol):
    """A job as its giver sees it."""

    num_models: int
    is_done: bool

    def begin(self, models: Models) -> Job:
        """Put the models into [num_models, p + b]; the job to do on them."""
        ...

    def finish(self, models: Models, answer: Answer) -> None:
        """Take what became of them."""
        ...


class Crew(Protocol):
    """Runs errands: begins them in their order, and finishes them in any. An error ends the crew's use."""

    def begin(self, errands: Sequence[Errand]) -> None:
        """Have them done by and by, and finish what is done already."""
        ...

    def finish(self, errands: Sequence[Errand]) -> None:
        """Go on until these, which have begun, are done."""
        ...

    def close(self) -> None:
        """End whatever runs."""
        ...


class LocalCrew:
    """Does every job in this process, with one thread."""

    def __init__(self, engine: Engine, width: int) -> None:
        self._engine = engine
        self._width = width
        self._waiting: deque[Errand] = deque()

    def begin(self, errands: Sequence[Errand]) -> None:
        """Nobody does them beside us."""
        self._waiting.extend(errands)

    def finish(self, errands: Sequence[Errand]) -> None:
        """One after the other."""
        with _one_thread():
            while not all(errand.is_done for errand in errands):
                errand = self._waiting.popleft()
                models = np.empty((errand.num_models, self._width), np.float32)
                job = errand.begin(models)
                errand.finish(models, do(self._engine, job, models))

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class _Worker:
    """A process, and what it was given and has not answered yet."""

    process: subprocess.Popen[bytes]
    connection: Connection
    slots: list[Models]
    given: deque[tuple[int, Errand]] = field(default_factory=deque)

    def free_slot(self) -> int:
        """A slot that no job uses."""
        used = {slot for slot, _ in self.given}
        return next(slot for slot in range(SLOTS_PER_WORKER) if slot not in used)


class WorkerCrew:
    """Shares jobs out to worker processes, to whichever is free.

    The workers end when they are closed, when the crew is forgotten and, since the kernel then closes their
    connection, when this process ends in whatever way.

    Args:
        shared: With `SLOTS_PER_WORKER` slots for each worker.
    """

    def __init__(self, shared: Shared) -> None:
        self._workers: list[_Worker] = []
        self._waiting: deque[Errand] = deque()
        starts = range(0, len(shared.slots), SLOTS_PER_WORKER)
        try:
            for start in starts:
                process, connection = _spawn(shared.fd)
                self._workers.append(_Worker(process, connection, shared.slots[start : start + SLOTS_PER_WORKER]))
            self._finalizer = weakref.finalize(self, _end, self._workers)
            for start, worker in zip(starts, self._workers, strict=True):
                worker.connection.send(shared.setup.for_worker(range(start, start + SLOTS_PER_WORKER)))
        except BaseException:
            _end(self._workers)
            raise

    def begin(self, errands: Sequence[Errand]) -> None:
        """Begin errands in their order, as workers have room, and finish what is done.

        Raises GrapevineError when a worker fails. After that, or an interruption, the crew is closed.
        """
        with self._closed_by_errors():
            self._waiting.extend(errands)
            self._take_from(worker for worker in self._workers if worker.given and worker.connection.poll())
            self._give(are_scarce=False)

    def finish(self, errands: Sequence[Errand]) -> None:
        """Wait for these. Raises as `begin` does."""
        with self._closed_by_errors():
            while not all(errand.is_done for errand in errands):
                self._give(are_scarce=len(self._waiting) < len(self._workers))
                busy = {worker.connection: worker for worker in self._workers if worker.given}
                self._take_from(busy[connection] for connection in wait(list(busy)))  # type: ignore[index]

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        if not self._finalizer.alive:
            raise GrapevineError("the workers that train have ended; start the run again from its last checkpoint")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _give(self, *, are_scarce: bool) -> None:
        """Everybody gets a job, and then another one to have at hand unless jobs are getting scarce."""
        for depth in range(1 if are_scarce else SLOTS_PER_WORKER):
            for worker in self._workers:
                if len(worker.given) != depth or not self._waiting:
                    continue
                errand, slot = self._waiting.popleft(), worker.free_slot()
                job = errand.begin(worker.slots[slot][: errand.num_models])
                worker.given.append((slot, errand))
                try:
                    worker.connection.send(Task(slot=slot, num_models=errand.num_models, job=job))
                except OSError:
                    raise _death_of(worker) from None

    def _take_from(self, workers: Iterable[_Worker]) -> None:
        for worker in workers:
            self._take(worker)

    def _take(self, worker: _Worker) -> None:
        try:
            answer: Answer | Failed = worker.connection.recv()
        except (EOFError, OSError):
            raise _death_of(worker) from None
        if isinstance(answer, Failed):
            raise GrapevineError(f"a training worker failed: {answer.reason}")
        slot, errand = worker.given.popleft()
        errand.finish(worker.slots[slot][: errand.num_models], answer)


def _spawn(memory_fd: int) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(theirs.fileno()), str(memory_fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), memory_fd),
            env={**os.environ, **_ENVIRONMENT},
        )
    return process, ours


def _death_of(worker: _Worker) -> GrapevineError:
    with suppress(subprocess.TimeoutExpired):
        worker.process.wait(_PATIENCE_S)
    code = worker.process.returncode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    return GrapevineError(
        f"a training worker (process {worker.process.pid}) {how}; if memory ran out, run with fewer workers or nodes"
    )


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        try:
            worker.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch with one thread, whatever it had before: other numbers of threads give other bits."""
    import torch  # noqa: PLC0415 — slow to import

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
