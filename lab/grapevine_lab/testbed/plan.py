"""From the words of a command, or a scenario file, to the machines of a lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from grapevine_agent.config.firmware import FirmwareProfile
from grapevine_agent.config.profile_files import profile_names
from grapevine_agent.config.toml_reader import suggestion
from grapevine_broker.probe import claim_port
from grapevine_lab.proxy import HERE
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import APPROVALS, Prepared
from grapevine_lab.simulator.scenario import read_content
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.store import MACHINES
from grapevine_proto.errors import RequestError

BESIDE_TASKS_MB: Final = 192
PLAIN: Final = "testbed"  # the scenario of a lab that was given none


def changes_of(
    *,
    peers: int | None = None,
    brokers: int | None = None,
    server: bool = False,
    task: str = "",
    profiles: str = "",
    others: Sequence[str] = (),
) -> list[str]:
    """The command's words as changes of a scenario, as `--set` takes them; `others` come last.

    Several brokers stand around the first one, each joined to it by a bridge, with equal parts of the peers.
    Raises RequestError.
    """
    changes: list[str] = []
    shares = _shares(profiles)
    if shares:
        total = sum(shares.values())
        if peers is not None and peers != total:
            raise RequestError(f"--profiles {profiles}: are {total} peers, and --peers says {peers}: write as many")
        peers = total
        changes.append(f"nodes.profiles={_inline(shares)}")
    if peers is not None:
        changes.append(f"nodes.num={peers}")
    if brokers is not None:
        names = [f"broker-{k + 1}" for k in range(brokers)]
        changes.append(f"broker=[{', '.join(_inline({'name': name}) for name in names)}]")
        bridges = [_inline({"owner": name, "to": names[0]}) for name in names[1:]]
        changes.append(f"bridge=[{', '.join(bridges)}]")
        changes.append(f"nodes.brokers={_inline(dict.fromkeys(names, 1))}")
        changes.append("nodes.gateways=0")
    if server:
        changes.append("server.present=[[0, inf]]")
    if task:
        changes.append(f"task.name={json.dumps(task)}")
    return [*changes, *others]


def scenario_content(named: str, *, quick: bool, changes: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """The tables of a scenario file, or of the plain one, with the changes in them, and the file."""
    path = find_scenario(named or PLAIN)
    return read_content(path, quick=quick, changes=changes), path.resolve()


def machines_of(prepared: Prepared, folder: Path) -> tuple[Machine, ...]:
    """All machines of a lab in `folder`: brokers first, then whoever publishes, reviews and serves, then the nodes."""
    scenario = prepared.scenario
    at = folder / MACHINES
    names = tuple(each.name for each in scenario.brokers)
    bridged: dict[int, list[str]] = {}
    for bridge in scenario.bridges:
        bridged.setdefault(bridge.owner, []).append(names[bridge.to])
    machines = [
        Machine(
            name=name,
            kind="broker",
            folder=at / name,
            command=("mosquitto", "-c", str(at / name / "mosquitto.conf")),
            brokers=tuple(bridged.get(k, ())),
            port=port,
        )
        for k, (name, port) in enumerate(zip(names, _free_ports(len(names)), strict=True))
    ]
    if scenario.review is None:
        machines.append(_agent("engineer", "engineer", at, names))
        machines += [_agent(f"reviewer-{k}", "reviewer", at, names) for k in range(APPROVALS)]
    if scenario.server.present:
        every_s = scenario.server.heartbeat_s or prepared.built.draft.training.round_interval_s
        config = ("--config", str(at / "server" / "agent.toml"), "--heartbeat-s", f"{every_s:g}")
        command = ("grapevine", "server", "run", *config)
        machines.append(Machine(name="server", kind="server", folder=at / "server", command=command, brokers=names))
    for node in range(scenario.nodes.num):
        profile = prepared.profile_of(node)
        own = tuple(names[k] for k in scenario.nodes.places_of(node))
        machines.append(
            Machine(
                name=f"peer-{node}",
                kind="peer",
                folder=at / f"peer-{node}",
                command=_run(at / f"peer-{node}"),
                brokers=own,
                memory_mb=_memory_mb(profile),
                cpus=float(profile.cores),
            )
        )
    return tuple(machines)


def _memory_mb(profile: FirmwareProfile) -> int:
    """What the board has, as it is sold with the least; of one size: what tasks may use, a system and an agent."""
    return min((each.ram_mb for each in profile.sizes), default=profile.memory_mb + BESIDE_TASKS_MB)


def _agent(name: str, kind: Any, at: Path, brokers: tuple[str, ...]) -> Machine:
    return Machine(name=name, kind=kind, folder=at / name, command=_run(at / name), brokers=brokers)


def _run(folder: Path) -> tuple[str, ...]:
    return ("grapevine", "agent", "run", "--config", str(folder / "agent.toml"))


def _free_ports(num: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < num:
        if (port := claim_port(HERE, 0)) not in ports:
            ports.append(port)
    return ports


def _shares(text: str) -> dict[str, int]:
    """`raspberry-pi-4b:10,generic:5`. Raises RequestError."""
    shares: dict[str, int] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, num = part.partition(":")
        if not num.isdecimal() or not int(num):
            raise RequestError(f"--profiles {part}: write a profile and how many have it, as in raspberry-pi-4b:10")
        shares[_profile(name)] = int(num)
    return shares


def _profile(name: str) -> str:
    """A profile's name, wherever its hyphens are. Raises RequestError."""
    known = {each.replace("-", ""): each for each in profile_names()}
    found = known.get(name.replace("-", "").lower())
    if found is None and not name.endswith(".toml"):
        raise RequestError(f"--profiles {name}: there is no such profile; {suggestion(name, profile_names())}")
    return found or name


def _inline(table: dict[str, Any]) -> str:
    """A TOML table on one line: JSON's strings and numbers are TOML's."""
    return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()) + " }"
