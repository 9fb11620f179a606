"""`grapevine doctor`: everything that an agent needs here, looked at, with what to do about it.

What it prints, of a device whose clock nothing sets and whose broker is not there:

    ✓ configuration  /etc/grapevine/agent.toml is read
    ! clock          it says 2026-03-01 12:00:00 UTC, and no time service keeps it
                     → have a time service set it: sudo apt install systemd-timesyncd, …
    ✗ broker         mqtt://hub.local:1883: nothing listens on hub.local:1883
                     → is the broker running?
    - wear           mmcblk0, an SD card, which does not say how worn it is
"""

from __future__ import annotations

import typer

from grapevine_agent.cli.output import ConfigOption, JsonOption


def register(app: typer.Typer) -> None:
    """Attach this command."""

    @app.command()
    def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Look at all that an agent needs here: clock, brokers, disk, memory, data, trust, trainer; say what to do.

        It works beside a running agent and without one, and changes nothing. It takes up to half a minute.
        Exit code 1: something fails (✗); 0: nothing does.
        """
        import asyncio

        from grapevine_agent.cli.examined import examined
        from grapevine_agent.doctor.findings import exit_code
        from grapevine_agent.journal import quietly

        with quietly():
            found = asyncio.run(examined(config, as_json=as_json))
        raise typer.Exit(exit_code(found))
