"""A worker process: `python -m grapevine_lab.simulator.training.worker CONNECTION_FD MEMORY_FD`.

It ends when its connection closes, whatever it is doing: a thread waits for that. The kernel closes it
when the other side ends, even if that is killed. An interrupt from the terminal is the other side's to
handle.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from grapevine_lab.simulator.training import shared_arrays
from grapevine_lab.simulator.training.messages import Failed, Setup, Task


def main(arguments: list[str]) -> int:
    """Do jobs until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection_fd, memory_fd = map(int, arguments)
    connection = Connection(connection_fd)
    messages: queue.SimpleQueue[Setup | Task] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    setup = messages.get()
    assert isinstance(setup, Setup)
    arrays = shared_arrays.open_arrays(memory_fd, setup.arrays)
    os.close(memory_fd)

    import torch  # noqa: PLC0415 — seconds, in which the other side may already end

    from grapevine_lab.simulator.training.engines import new_engine  # noqa: PLC0415
    from grapevine_lab.simulator.training.jobs import do  # noqa: PLC0415

    torch.set_num_threads(1)
    engine = new_engine(setup.how, setup.commons(arrays))
    while True:
        task = messages.get()
        assert isinstance(task, Task)
        models = arrays[setup.slots[task.slot]][: task.num_models]
        try:
            connection.send(do(engine, task.job, models))
        except OSError:
            return 0  # nobody is there any more
        except Exception as error:
            connection.send(Failed(reason=f"{type(error).__name__}: {error}"))


def _listen(connection: Connection, messages: queue.SimpleQueue[Setup | Task]) -> None:
    """Pass messages on; when there will be no more, end the process."""
    try:
        while True:
            messages.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
