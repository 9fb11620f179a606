"""The process that writes a lab down: `python -m grapevine_lab.testbed.recorder FOLDER URL…`, a URL for each broker.

It is not the keeper's work: on a host that has more to do than it can, a keeper that reads everything answers nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from grapevine_lab.testbed.recording import Recorder
from grapevine_lab.testbed.store import EVENTS, PASSED, Lab
from grapevine_lab.testbed.telltale import Telltale


async def record(folder: Path, urls: list[str]) -> None:
    """Write down what passes the brokers and what agents tell, until SIGTERM."""
    lab = Lab.read(folder)
    sockets = {each.name: lab.socket(each) for each in lab.agents}
    recorder, telltale = Recorder(urls, lab.root, folder / PASSED), Telltale(sockets, folder / EVENTS)
    running = asyncio.gather(recorder.run(), telltale.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


def main() -> None:
    """The process's own main."""
    asyncio.run(record(Path(sys.argv[1]), sys.argv[2:]))


if __name__ == "__main__":
    main()
