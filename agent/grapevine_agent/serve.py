"""`python -m grapevine_agent.serve ROLE SERVER_HEARTBEAT_S [CONFIG]`: the service, and nothing but the service.

    SIGTERM, SIGINT   leave in good order          SIGHUP   read the configuration again

Whoever started it, such as systemd, is told when commands are answered, what it is connected to, and that it lives
(`supervision`).

`grapevine agent run` and `grapevine server run` read their options with Typer and Rich and then become
this module (`exec`: the same process, the same number). What reads a command line and draws tables would
otherwise stay in memory for as long as the device runs, 12 MB of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.control.server import ControlServer, SocketTakenError
from grapevine_agent.core.settings import Role
from grapevine_agent.identity import IdentityError
from grapevine_agent.journal import ERROR, INFO, is_journal, log_to_stderr, prioritised
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.pulse import Stops, watched_loop
from grapevine_agent.service.supervised import Supervised
from grapevine_agent.store.durable import move_aside
from grapevine_agent.supervision import Supervisor
from grapevine_proto.errors import GrapevineError, StoreError

logger = logging.getLogger(__name__)

EXIT_FAILED, EXIT_IDENTITY, EXIT_INTERRUPTED = 1, 4, 130
LISTEN_WITHIN_S = 2.0  # of the start; it goes on beside the service
LISTEN_AGAIN_S = 10.0


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM. The exit codes are those of the `grapevine` command."""
    role, heartbeat_s, *path = arguments
    try:
        config = load_config(Path(path[0]) if path else None, os.environ)
        log_to_stderr(config.agent.log_level, os.environ)
        stops = Stops()
        with asyncio.Runner(loop_factory=partial(watched_loop, stops)) as runner:
            runner.run(_run(config, cast(Role, role), float(heartbeat_s), stops))
    except GrapevineError as error:
        _tell(f"error: {error}", ERROR)
        return EXIT_IDENTITY if isinstance(error, IdentityError) else EXIT_FAILED
    except KeyboardInterrupt:  # before the service could ask for the signal
        return EXIT_INTERRUPTED
    return 0


async def _run(config: Config, role: Role, server_heartbeat_s: float, stops: Stops) -> None:
    supervisor = Supervisor.of(os.environ, os.getpid())
    with assembled(config, role=role, server_heartbeat_s=server_heartbeat_s, stops=stops) as service:
        attending = Supervised(service, supervisor)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, attending.stop)
        loop.add_signal_handler(signal.SIGHUP, attending.reload_soon)
        _tell(
            f"grapevine {role} {service.identity.peer_id} ({config.agent.name}), profile "
            f"{service.core.settings.limits.profile}, brokers {', '.join(config.mqtt.brokers)}"
        )
        path = config.agent.state_dir / SOCKET_FILE
        control = ControlServer(path, Requests(service).answer)
        # Whoever else answers there keeps this service from starting; a disk does not.
        listening = asyncio.create_task(_listen(control, path))
        await asyncio.wait({listening}, timeout=LISTEN_WITHIN_S)
        # What there is by now stays: to look through it for garbage would stop the event loop again and again.
        gc.collect()
        gc.freeze()
        try:
            if listening.done():
                listening.result()
            attending.begin()
            await service.run()
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            await attending.end()
            await control.stop()


async def _listen(control: ControlServer, path: Path) -> None:
    """Listen for commands. Where the disk takes no socket (full, read-only), try again for as long as it takes."""
    while True:
        try:
            _clear_place(path)
            await control.start()
        except SocketTakenError:
            raise
        except StoreError as error:
            logger.warning("commands cannot reach this agent: %s", error)
            await asyncio.sleep(LISTEN_AGAIN_S)
        else:
            return


def _clear_place(path: Path) -> None:
    """Move aside what lies where the socket goes, and is none: the folder is ours, so it is nobody's."""
    if os.path.lexists(path) and not path.is_socket():
        logger.error("%s is no socket and was moved to %s", path, move_aside(path, time.time()))


def _tell(text: str, priority: int = INFO) -> None:
    """A line on stderr. Where that goes into a file on a full disk, it is lost."""
    with suppress(OSError):
        sys.stderr.write((prioritised(text, priority) if is_journal(os.environ) else text) + "\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
