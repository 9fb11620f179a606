"""`python -m grapevine_agent.serve ROLE SERVER_HEARTBEAT_S [CONFIG]`: the service, and nothing but the service.

`grapevine agent run` and `grapevine server run` read their options with Typer and Rich and then become
this module (`exec`: the same process, the same number). What reads a command line and draws tables would
otherwise stay in memory for as long as the device runs, 12 MB of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn, cast

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.control import ControlServer
from grapevine_agent.core.settings import Role
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.assembly import assembled, state_socket
from grapevine_proto.errors import GrapevineError

LOG_FORMAT = "%(levelname)s %(message)s"  # journald adds the time
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def become(role: Role, config: Path | None, server_heartbeat_s: float = 1.0) -> NoReturn:
    """Replace this process by the service."""
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [role, repr(server_heartbeat_s), *([str(config)] if config else [])]
    # -P: no module from the folder that we happen to be in.
    os.execv(sys.executable, [sys.executable, "-P", "-m", __name__, *arguments])  # noqa: S606 - our own interpreter


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM. The exit codes are those of the `grapevine` command."""
    role, heartbeat_s, *path = arguments
    try:
        config = load_config(Path(path[0]) if path else None, os.environ)
        logging.basicConfig(level=config.agent.log_level.upper(), format=LOG_FORMAT)
        asyncio.run(_run(config, cast(Role, role), float(heartbeat_s)))
    except GrapevineError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:  # before the service could ask for the signal
        return EXIT_INTERRUPTED
    return 0


async def _run(config: Config, role: Role, server_heartbeat_s: float) -> None:
    with assembled(config, role=role, server_heartbeat_s=server_heartbeat_s) as service:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, service.stop)
        sys.stderr.write(
            f"grapevine {role} {service.identity.peer_id} ({config.agent.name}), profile "
            f"{service.core.settings.limits.profile}, brokers {', '.join(config.mqtt.brokers)}\n"
        )
        sys.stderr.flush()
        async with ControlServer(state_socket(config), Requests(service).answer):
            await service.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
