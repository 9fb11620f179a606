"""How a lab is: a row for each machine, for people and as JSON."""

from __future__ import annotations

import time
from typing import Any

from grapevine_lab.pages.sections import Table
from grapevine_lab.simulator.network import NetworkPlan
from grapevine_lab.testbed.acting import ask
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.starting import delay_ms_of, statuses_of
from grapevine_lab.testbed.store import Lab

NONE = ""


def status_of(lab: Lab) -> dict[str, Any]:
    """All that is known of a lab now. Raises `RequestError` where its keeper is gone."""
    kept = ask(lab, "states")
    states, cuts = kept["states"], [tuple(pair) for pair in kept["cuts"]]
    answering = [each for each in lab.agents if states[each.name] == "running"]
    statuses = statuses_of(lab, answering)
    return {
        "name": lab.name,
        "engine": lab.engine,
        "scenario": lab.title,
        "folder": str(lab.folder),
        "task": lab.task,
        "seconds": time.time() - lab.began_s if lab.began_s else None,
        "cuts": [list(pair) for pair in cuts],
        "machines": [
            _row(lab, each, states[each.name], statuses.get(each.name, {}), kept["shapes"].get(each.name), cuts)
            for each in lab.machines
        ],
    }


def _row(
    lab: Lab,
    machine: Machine,
    state: str,
    status: dict[str, Any],
    shape: tuple[float, float] | None,
    cuts: list[tuple[str, ...]],
) -> dict[str, Any]:
    delay_ms = shape[0] if shape else 0.0
    task: dict[str, Any] = next((line for line in status.get("tasks", ()) if line["id"] == lab.task), {})
    return {
        "name": machine.name,
        "kind": machine.kind,
        "state": state,
        "answers": bool(status),
        "peer": lab.peer_ids.get(machine.name, ""),
        "brokers": list(machine.brokers),
        "connected": status.get("connected"),
        "cut_from": sorted(pair[1] for pair in cuts if pair[0] == machine.name),
        "round": task.get("round"),
        "metric": task.get("metric"),
        "merges": task.get("merges"),
        "alive": status.get("peers", {}).get("alive"),
        "memory_mb": status.get("memory_mb"),
        "delay_ms": delay_ms,
        "is_delayed": delay_ms > _usual_ms(lab),
        "kbit_per_s": shape[1] if shape else 0.0,
        "why": task.get("why", "") if machine.kind in ("peer", "server") else "",
    }


def _usual_ms(lab: Lab) -> float:
    """How slow its scenario has all lines."""
    return delay_ms_of(float(lab.content.get("network", {}).get("latency_s", NetworkPlan.latency_s)))


def table_of(status: dict[str, Any]) -> Table:
    """A status as a table for people."""
    return Table(
        ["machine", "state", "round", "metric", "peers", "broker", "remark"],
        [
            [
                row["name"],
                row["state"],
                _number(row["round"], "d"),
                _number(row["metric"], ".3f"),
                _number(row["alive"], "d"),
                ", ".join(row["brokers"]),
                _remark(row),
            ]
            for row in status["machines"]
        ],
    )


def _number(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _remark(row: dict[str, Any]) -> str:
    remarks = []
    if row["cut_from"]:
        remarks.append(f"cut from {', '.join(row['cut_from'])}")
    elif row["state"] == "running" and row["kind"] != "broker" and not row["connected"]:
        remarks.append("not connected" if row["answers"] else "does not answer")
    if row["is_delayed"]:
        remarks.append(f"{row['delay_ms']:g} ms")
    if row["kbit_per_s"]:
        remarks.append(f"{row['kbit_per_s']:g} kbit/s")
    if row["why"]:
        remarks.append(row["why"])
    return "; ".join(remarks)
