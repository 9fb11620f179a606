"""The child process of the engine `rumqtt`: `python -m grapevine_broker.rumqtt_process`.

It prints one JSON line, `{"port": 41883}` or `{"error": "…"}`, and serves until SIGTERM, until its parent has gone,
until its standard input ends, or until rumqttd's router has ended: some packets end that thread of rumqttd, and what is
left of it still takes connections, and serves none.

What rumqttd says goes through a log that says a thing a few times a minute: it has lines for each packet, which are
switched off, and for each task of its own that ends by a mistake, which are not.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
from importlib.machinery import PathFinder
from math import inf
from pathlib import Path
from typing import Protocol

from grapevine_broker.in_child import leave_with_stdin, report, room_for
from grapevine_broker.leash import die_with_parent
from grapevine_broker.limits import Limits
from grapevine_broker.rumqtt_config import VERSIONS, config_text
from grapevine_broker.sparing_log import SparingLog

logger = logging.getLogger("rumqtt")

LOOK_EVERY_S = 1.0
_PACKAGE = "iotcore"
_ROUTER = "router"  # how the name of its thread begins
_THREADS = Path("/proc/self/task")
_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Rumqttd(Protocol):
    def start(self) -> None:
        """Listen; OSError where it cannot."""


def has_router() -> bool:
    """Whether rumqttd's router runs; taken to be so where the system does not tell, as elsewhere than on Linux."""
    if not _THREADS.is_dir():
        return True
    return any(_name_of(thread).startswith(_ROUTER) for thread in _THREADS.iterdir())


def _name_of(thread: Path) -> str:
    try:
        return (thread / "comm").read_text()
    except OSError:  # it has ended since
        return ""


def _log_what_is_written(log: SparingLog) -> None:
    """Have whatever this process writes to its standard error go through `log`, which writes where it went before."""
    log.setStream(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace"))
    reading_end, writing_end = os.pipe()
    os.dup2(writing_end, 2)
    os.close(writing_end)

    def pass_on() -> None:
        with os.fdopen(reading_end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip():
                    logger.error("%s", line.rstrip())

    threading.Thread(target=pass_on, name="log", daemon=True).start()


def _rumqttd(config: Path) -> _Rumqttd:
    """Make rumqttd with this configuration, not started yet.

    Of iotcore only the extension module is loaded: the package around it brings an MQTT client and asyncio, which
    nobody here uses, and 9 MB with them.
    """
    package = importlib.util.find_spec(_PACKAGE)
    assert package is not None, "our parent has looked"
    extension = PathFinder.find_spec(f"{_PACKAGE}.{_PACKAGE}", package.submodule_search_locations)
    if extension is None or extension.loader is None:
        msg = f"the installed {_PACKAGE} has no extension module for this Python"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(extension)
    extension.loader.exec_module(module)
    broker: _Rumqttd = module.IotCoreBroker(config_path=str(config))
    return broker


def _serve(log: SparingLog) -> int:
    """Wait for a signal, or for the router's end; the process's exit status."""
    while signal.sigtimedwait(_ENDING, LOOK_EVERY_S) is None:
        if not has_router():
            logger.error("rumqttd's router has ended, and nobody is served any more: see above")
            return 1
        log.acquire()
        log.sum_up(time.time())
        log.release()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Serve; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_broker.rumqtt_process")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--folder", required=True, help="where the configuration may be written")
    parser.add_argument("--mqtt-version", choices=VERSIONS, required=True)
    options = parser.parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # before there is another thread: each inherits it
    die_with_parent(options.parent_pid)
    leave_with_stdin()
    os.environ["RUST_BACKTRACE"] = "0"
    log = SparingLog()
    _log_what_is_written(log)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[log])
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL + 1)  # it calls each packet an error
    limits = room_for(Limits())
    try:
        config = Path(options.folder) / "rumqttd.toml"
        config.write_text(config_text(options.host, options.port, options.mqtt_version, limits))
        broker = _rumqttd(config)
        broker.start()  # in threads of this process
    except Exception as error:  # whatever kept it from serving, our parent has to tell its user
        report({"error": str(error)})
        return 1
    report({"port": options.port})
    status = _serve(log)
    log.sum_up(inf)
    return status


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # at once: rumqttd's threads know no end
