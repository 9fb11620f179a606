"""What the machines of `compose.yaml` find in their folders: keys, configurations, samples, a task, brokers' rules.

    python -m grapevine_lab.testbed.composed [FOLDER]      ./testbed without a word; the folder must be new

The composed testbed is for looking at containers by Docker's own commands; `grapevine lab` does more with the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from grapevine_agent.identity import first_identity
from grapevine_broker.bridge import Bridge
from grapevine_broker.mosquitto import MAX_PACKET_BYTES, basic_config
from grapevine_lab.testbed.docker_engine import give
from grapevine_lab.testbed.images import CHECKOUT, PACKAGING, name_of
from grapevine_proto.errors import ConfigError, GrapevineError

COMPOSE: Final = "compose.yaml"
NUM_AGENTS: Final = 6
PORT: Final = 1883
METRICS_PORT: Final = 9464
ROOT: Final = "grapevine/v1"
REVIEWERS: Final = ("reviewer-1", "reviewer-2")
PROFILES: Final = ("raspberry-pi-4b", "raspberry-pi-zero-2-w")  # of agents with an even number, and an odd one
BROKERS: Final = ("north", "south")  # likewise


def prepare(folder: Path) -> None:
    """Make the folder, and all in it. Raises `ConfigError` if it is there."""
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name another folder, or remove it")
    folder.mkdir(parents=True)
    shutil.copy(CHECKOUT / PACKAGING / COMPOSE, folder)
    _write_brokers(folder)
    reviewers = [_machine(folder, name) for name in REVIEWERS]
    server = _machine(folder, "server", trusted=reviewers)
    _machine(folder, "engineer")
    for agent in range(NUM_AGENTS):
        _machine(folder, f"agent-{agent}", agent=agent, trusted=reviewers)
        _write_samples(folder / f"agent-{agent}" / "digits.npz", agent)
    _build_task(folder / "engineer" / "task", server)
    _write_prometheus(folder)
    _write_environment(folder)


def _machine(folder: Path, name: str, *, agent: int = 0, trusted: list[str] | None = None) -> str:
    """One machine's folder, with its key and configuration; its id."""
    place = folder / name
    place.mkdir()
    is_agent = name.startswith("agent")
    profile = PROFILES[agent % len(PROFILES)] if is_agent else "relay-only"
    lines = [
        f'[agent]\nname = "{name}"\nstate_dir = "state"\nprofile = "{profile}"',
        f'consent = "{"auto" if is_agent else "never"}"',
        f'[mqtt]\nbrokers = ["mqtt://{BROKERS[agent % len(BROKERS)]}:{PORT}"]\nheartbeat_s = 2',
        f"[review]\napprovals = {len(REVIEWERS)}\ntrusted = {json.dumps(trusted or [])}",
        # The testbed's own networks are all that reach it.
        f'[metrics]\nenabled = true\nlisten = "0.0.0.0:{METRICS_PORT}"\nallow_remote = true',
    ]
    if is_agent:
        lines.append('[[data]]\nkind = "digits-8x8"\npath = "digits.npz"')
    (place / "agent.toml").write_text("\n".join([*lines, ""]))
    return str(first_identity(place / "state").peer_id)


def _write_brokers(folder: Path) -> None:
    for name in BROKERS:
        (folder / name / "state").mkdir(parents=True)
        lines = basic_config(host="0.0.0.0", port=PORT, anonymous=True, max_packet_bytes=MAX_PACKET_BYTES)  # noqa: S104
        lines += ["persistence true", "persistence_location /mosquitto/broker/state/", "autosave_interval 60"]
        if name == "south":
            lines.append(Bridge(name="north", host="north", port=PORT, client_id="south", root=ROOT).config())
        (folder / name / "mosquitto.conf").write_text("\n".join([*lines, ""]))


def _write_samples(path: Path, agent: int) -> None:
    """Images of four of the ten digits, as in the demo: nobody can learn all of them alone."""
    import numpy as np  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    mine = np.isin(digits.target, [(2 * agent + k) % 10 for k in range(4)])
    np.savez(path, x=digits.images[mine], y=digits.target[mine])


def _build_task(folder: Path, server: str) -> None:
    from grapevine_agent.merge.plan import check_merge_plan  # noqa: PLC0415
    from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415
    from grapevine_tasks.catalogue import catalogue_task  # noqa: PLC0415

    shutil.copytree(catalogue_task("digits"), folder)
    text = (folder / "task.toml").read_text()
    (folder / "task.toml").write_text(text.replace("[task]\n", f'[task]\nservers = ["{server}"]\n', 1))
    build_task(folder, check_merging=check_merge_plan)


def _write_prometheus(folder: Path) -> None:
    targets = [f"{name}:{METRICS_PORT}" for name in ("server", *(f"agent-{k}" for k in range(NUM_AGENTS)))]
    (folder / "prometheus.yml").write_text(
        "scrape_configs:\n  - job_name: grapevine\n    scrape_interval: 15s\n    static_configs:\n"
        f"      - targets: {json.dumps(targets)}\n"
    )


def _write_environment(folder: Path) -> None:
    """As whom containers run: as us, or as the image's user where we are root; the folders are theirs."""
    lines = [f"TESTBED_USER={give(folder)}", f"TESTBED_CORES={min(4, os.cpu_count() or 1)}"]
    lines += [f"TESTBED_{each.upper()}_IMAGE={name_of(each)}" for each in ("agent", "relay", "server", "broker")]
    (folder / ".env").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    try:
        prepare(Path(sys.argv[1] if len(sys.argv) > 1 else "testbed"))
    except GrapevineError as error:
        sys.exit(f"error: {error}")
