"""`grapevine broker run`: a broker where there is none; `grapevine broker bridge`: two that are one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.output import tell
from grapevine_proto.errors import ConfigError, RequestError
from grapevine_proto.roots import DEFAULT_ROOT, check_root


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    broker = typer.Typer(help="A broker where there is none, and bridges between them.", no_args_is_help=True)
    app.add_typer(broker, name="broker")

    @broker.command("run")
    def run(
        engine: Annotated[
            str, typer.Option(help="embedded or rumqtt (for one trusted host), or mosquitto.")
        ] = "embedded",
        host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="The port; 0 picks a free one.", min=0, max=65_535)] = 1883,
        password_file: Annotated[Path | None, typer.Option(help="Mosquitto: its users.")] = None,
        acl: Annotated[Path | None, typer.Option(help="Mosquitto: access rules instead of Grapevine's own.")] = None,
        root: Annotated[str, typer.Option(help="The topic root that Grapevine's own rules protect.")] = DEFAULT_ROOT,
        homeassistant: Annotated[
            str, typer.Option(help="Mosquitto: Home Assistant's user name, let in by Grapevine's own rules.")
        ] = "",
        server: Annotated[
            list[str] | None,
            typer.Option(
                help="Mosquitto: the user name (peer id) of a server that may be in a group; may be repeated."
            ),
        ] = None,
        state_dir: Annotated[
            Path | None, typer.Option(help="Mosquitto: where it keeps records over a restart.", show_default=False)
        ] = None,
        mqtt_version: Annotated[
            str, typer.Option(help="rumqtt: the version of MQTT that it speaks, 3.1.1 or 5.", show_default=False)
        ] = "",
    ) -> None:
        """Run an MQTT broker in the foreground."""
        from grapevine_agent.supervision import Supervisor
        from grapevine_broker import run_broker

        try:
            check_root(root)
        except ConfigError as error:
            raise RequestError(f"--root: {error}") from None
        supervisor = Supervisor.of(os.environ, os.getpid())
        raise typer.Exit(
            run_broker(
                engine,
                host,
                port,
                password_file=password_file,
                acl_file=acl,
                root_topic=root,
                home_assistant=homeassistant,
                servers=server or (),
                state_dir=state_dir or _state_dir(engine, port),
                mqtt_version=mqtt_version,
                say=tell,
                ready=supervisor.ready,
                alive=supervisor.alive,
                alive_every_s=supervisor.every_s,
            )
        )

    @broker.command("bridge")
    def bridge(
        to: Annotated[str, typer.Option(help="The other broker: mqtt://host:1883 or mqtts://host.")],
        name: Annotated[str, typer.Option(help="What the bridge is called, once on each of the two brokers.")] = "",
        root: Annotated[str, typer.Option(help="The topic root that is carried.")] = DEFAULT_ROOT,
    ) -> None:
        """Print lines for the mosquitto.conf of a broker here, which join it with another one."""
        import secrets

        from grapevine_agent.net.urls import BrokerUrl
        from grapevine_broker.bridge import Bridge

        if "@" in to:
            raise RequestError("--to: leave user and password out; they belong into the lines that are printed")
        try:
            url = BrokerUrl.parse(to)
            check_root(root)
        except ConfigError as error:
            raise RequestError(str(error)) from None
        if url.is_websocket:
            raise RequestError(f"--to {to}: Mosquitto's bridges speak no WebSocket; give mqtt:// or mqtts://")
        name = name or f"grapevine-{url.host.replace(':', '.')}"
        lines = Bridge(
            name=name,
            host=url.host,
            port=url.port,
            client_id=f"{name}-{secrets.token_hex(4)}",
            root=root,
            has_tls=url.has_tls,
        )
        typer.echo(lines.config(), nl=False)


def _state_dir(engine: str, port: int) -> Path | None:
    """Where Mosquitto keeps its records, unless somebody says: systemd's folder, else one of this port."""
    if engine != "mosquitto":
        return None
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    if port == 0:  # another one each time
        return None
    from grapevine_agent.config.agent_toml import default_state_dir

    return default_state_dir(os.environ, is_root=os.geteuid() == 0).with_name(f"grapevine-broker-{port}")
