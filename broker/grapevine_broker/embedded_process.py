"""The child process of the embedded broker: `python -m grapevine_broker.embedded_process`.

It prints one JSON line, `{"port": 41883}` or `{"error": "…"}`, and serves until SIGTERM, until its
parent has gone, or until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import time
from math import inf
from typing import Any

from grapevine_broker.careful_broker import CarefulBroker
from grapevine_broker.in_child import LAST_CALL_S, leave_with_stdin, report, room_for
from grapevine_broker.leash import die_with_parent
from grapevine_broker.limits import Limits
from grapevine_broker.sparing_log import PERIOD_S, SparingLog


def broker_config(host: str, port: int) -> dict[str, Any]:
    """Return amqtt's configuration: one listener, anonymous clients, no packet logger and no $SYS topics."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


async def _sum_up(log: SparingLog) -> None:
    while True:
        await asyncio.sleep(PERIOD_S / 4)
        log.sum_up(time.time())


async def _serve(host: str, port: int, limits: Limits, log: SparingLog) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    broker = CarefulBroker(broker_config(host, port), limits=limits)
    await broker.start()
    report({"port": broker.port})
    chores = [asyncio.create_task(broker.sweep(), name="sweep"), asyncio.create_task(_sum_up(log), name="log")]
    await stopping.wait()
    for chore in chores:
        chore.cancel()
    await asyncio.wait(chores)
    log.sum_up(inf)
    await asyncio.wait_for(broker.shutdown(), LAST_CALL_S)


def main(arguments: list[str] | None = None) -> int:
    """Serve; the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_broker.embedded_process")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--retained-max-age-s", type=float, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent_pid)
    leave_with_stdin()
    log = SparingLog()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[log])
    # A peer that vanishes is ordinary here, and amqtt warns of it.
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    limits = room_for(Limits(retained_max_age_s=options.retained_max_age_s))
    try:
        asyncio.run(_serve(options.host, options.port, limits, log))
    except TimeoutError:
        return 0  # it was asked to stop and some connections were slow to close: they end with the process
    except Exception as error:  # whatever kept it from serving, our parent has to tell its user
        report({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main())  # at once: amqtt's tasks of half-closed connections would only delay it
