"""`grapevine review show`: a task laid open, without running any of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from grapevine_agent.cli.app_words import standing_here
from grapevine_agent.cli.checked import costs_table, fits_table
from grapevine_agent.cli.output import console, counted, shown
from grapevine_agent.intent.yaml_tree import written
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.printable import date_of, printable
from grapevine_agent.requests.costs import CostReport, cost_report
from grapevine_agent.requests.merging_words import merging_lines
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import ConfigError, RequestError, TaskError
from grapevine_proto.manifest import FeatureSpec, MergePlan, TaskManifest
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_proto.messages import TaskPublication
from grapevine_proto.topics import parse_below_root
from grapevine_tasks.checks import TO_LOOK_AT, CheckReport, NodeReport, check_manifest

MOST_ROWS = 40  # of a graph, unless all are asked for
GRAPHS = ("train", "eval")


def manifest_of(found: dict[str, Any]) -> TaskManifest:
    """The manifest among a task's records, verified once more here. Raises `TaskError` if it is gone."""
    for name, text in found["records"].items():
        topic = parse_below_root(name)
        body = open_envelope(base64.b64decode(text), topic).message.body
        if isinstance(body, TaskPublication) and not body.retracted:
            return decode_manifest(body.manifest)
    raise TaskError(f"{found['name']}: {found['why']}; its manifest is not held any more")


def task_as_json(found: dict[str, Any]) -> dict[str, Any]:
    """Everything about a task as plain values: what `print_task` shows."""
    manifest = manifest_of(found)
    plain = asdict(manifest)
    plain.pop("program")
    report, costs, error = _checked(manifest)
    return {
        **{key: value for key, value in found.items() if key not in ("records", "peer")},
        "manifest": plain,
        "unsound": error,
        "costs": costs.as_json() if costs else None,
        "graphs": {name: [_row(node) for node in getattr(report, name)] for name in GRAPHS} if report else None,
    }


def application_lines(found: dict[str, Any]) -> str:
    """Everything about an application for people, as Rich markup: what it says, and what is said of it."""
    try:
        whole = written([found["application"]])
    except ConfigError:  # without PyYAML
        whole = json.dumps(found["application"], indent=2) + "\n"
    lines = [
        f"[bold]{shown(found['name'])}[/]  {found['task']}",
        standing_here(found),
        "",
        escape(printable(whole, lines=True)),
    ]
    for each in found["reviews"]:
        verdict = "withdrawn" if each["withdrawn"] else "approved" if each["approved"] else "rejected"
        ignored = f" (does not count: {shown(each['ignored'])})" if each["ignored"] else ""
        lines.append(
            f"{verdict} by {each['name'] or each['reviewer']}{ignored}: {shown(each['reason']) or 'no reason given'}"
        )
    return "\n".join(lines)


def check_graph(graph: str) -> None:
    """Raise `RequestError` for a graph that there is not."""
    if graph not in GRAPHS:
        raise RequestError(f"--graph {graph[:40]}: a program has the graphs {' and '.join(GRAPHS)}")


def print_task(found: dict[str, Any], *, graph: str, every_node: bool) -> None:
    """Print everything about a task for people; `graph` is one of `GRAPHS`."""
    manifest = manifest_of(found)
    report, costs, error = _checked(manifest)
    console().print(f"[bold]{shown(manifest.name)}[/]  {found['task']}")
    console().print(f"{shown(found['standing'])}: {shown(found['why'])}")
    for line in manifest.description.splitlines():
        console().print(shown(line, 4000))
    console().print(_fields(_facts(manifest)))
    console().print("\n[bold]data[/]: what an owner's samples must be", _fields(_contract(manifest)), sep="\n")
    console().print("\n[bold]training and merging[/]", _fields(_plans(manifest, is_sound=report is not None)), sep="\n")
    if report is None or costs is None:
        console().print(f"\n[bold red]unsound[/]: {shown(error)}; no device runs it")
    else:
        console().print("\n[bold]costs[/]", costs_table(costs), fits_table(costs), sep="\n")
        for warning in costs.warnings:
            console().print(f"[yellow]warning:[/] {shown(warning)}")
        console().print(f"\n[bold]{graph} graph[/]", _graph(getattr(report, graph), every_node=every_node), sep="\n")
    console().print("\n[bold]reviews[/]", _reviews(found["reviews"]), sep="\n")


def _checked(manifest: TaskManifest) -> tuple[CheckReport | None, CostReport | None, str]:
    try:
        report = check_manifest(manifest, check_merging=check_merge_plan, limits=TO_LOOK_AT)
        return report, cost_report(manifest), ""
    except TaskError as error:
        return None, None, str(error)


def _facts(manifest: TaskManifest) -> dict[str, str]:
    return {
        "publisher": manifest.publisher,
        "version": f"{manifest.version}" + (f", after {manifest.parent}" if manifest.parent else ""),
        "published": date_of(manifest.created_at_ms),
        "expires": date_of(manifest.expires_at_ms) if manifest.expires_at_ms else "never",
        "servers": ", ".join(manifest.servers) or "none",
        "needs": f"{manifest.requirements.memory_mb} MB, {counted(manifest.requirements.cores, 'core')}",
        "weights": f"{manifest.initial_weights.num_bytes:,} bytes, SHA-256 {manifest.initial_weights.digest}",
    }


def _contract(manifest: TaskManifest) -> dict[str, str]:
    data = manifest.data
    steps = [f"{_called(step.name, step.arguments)}" for step in data.pipeline]
    return {
        "kind": data.kind,
        "features": _feature(data.features),
        "target": _feature(data.target),
        "classes": ", ".join(data.classes) or (str(data.num_classes) if data.num_classes else "none"),
        "samples": f"at least {data.minimum_samples:,}",
        "freshness": f"the newest at most {data.max_age_s:g} s old" if data.max_age_s else "any age",
        "scaled": f"(x − {data.offset:g}) × {data.scale:g}",
        "pipeline": ", then ".join(steps) or "none",
    }


def _feature(feature: FeatureSpec) -> str:
    columns = f", columns {', '.join(feature.columns)}" if feature.columns else ""
    return f"{feature.name}: {feature.dtype}{list(feature.shape)}{columns}"


def _plans(manifest: TaskManifest, *, is_sound: bool) -> dict[str, str]:
    training, merging = manifest.training, manifest.merging
    optimiser, schedule = training.optimiser, training.schedule
    fields = asdict(optimiser) | {"constants": None, "name": None}
    numbers = {key: value for key, value in fields.items() if value} | dict(optimiser.constants)
    return {
        "loss": f"{_called(training.loss, training.loss_constants)}, measured as {training.metric}",
        "optimiser": f"{_called(optimiser.name, numbers)}",
        "schedule": f"{_called(schedule.name, schedule.constants)}",
        "gradient": f"shortened to {training.max_gradient_norm:g}" if training.max_gradient_norm else "as it is",
        "a round": f"{training.steps_per_round} steps of {training.batch_size} samples, every "
        f"{training.round_interval_s:g} s at most" + (f", {training.num_rounds} rounds" if training.num_rounds else ""),
        "merging": f"{_called(merging.strategy, merging.constants)}",
        "at a server": f"{_called(merging.server_strategy, merging.server_constants)}",
        **(merging_lines(manifest) if is_sound else _as_written(merging)),
        "bounds": f"clip {merging.clip:g}, server trust {merging.server_trust_cap:g}, average {merging.ema:g}",
    }


def _as_written(merging: MergePlan) -> dict[str, str]:
    """The choices of a plan that may be none: what they would mean nobody can say."""
    return {
        "sending": f"{merging.update_form}, {merging.send_rate} × {merging.sends_per_round:g} a round",
        "exchange": merging.exchange,
        "encodings": ", ".join(merging.encodings),
        "stale": f"{merging.stale} after {merging.stale_after:,} steps",
    }


def _called(name: str, constants: Mapping[str, Any]) -> str:
    return f"{name}({_constants(constants)})" if constants else name


def _constants(constants: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_number(value)}" for key, value in sorted(constants.items()))


def _number(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_number, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _fields(fields: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in fields.items():
        table.add_row(key, shown(value, 2000))
    return table


def _row(node: NodeReport) -> dict[str, Any]:
    return {
        "number": node.number,
        "operator": node.operator,
        "arguments": node.arguments,
        "results": node.results,
        "flops": node.flops,
        "bytes_moved": node.bytes_moved,
    }


def _graph(nodes: tuple[NodeReport, ...], *, every_node: bool) -> Table:
    table = Table("value", "operator", "arguments", "result", "operations", "bytes moved", title_justify="left")
    whole = every_node or len(nodes) <= MOST_ROWS
    head = nodes if whole else nodes[: MOST_ROWS // 2]
    tail = () if whole else nodes[-MOST_ROWS // 2 :]
    for part in (head, tail):
        for node in part:
            work = (f"{number:,}" if number else "" for number in (node.flops, node.bytes_moved))
            table.add_row(f"%{node.number}", node.operator, shown(node.arguments, 120), shown(node.results), *work)
        if part is head and tail:
            table.add_row("…", f"{len(nodes) - MOST_ROWS} more", "--all shows them", "", "", "")
    return table


def _reviews(reviews: list[dict[str, Any]]) -> Table:
    table = Table("reviewer", "role", "verdict", "reason", "made", "counts here")
    for each in reviews:
        verdict = "withdrawn" if each["withdrawn"] else "approves" if each["approved"] else "rejects"
        who = each["reviewer"] + (f" ({shown(each['name'])})" if each["name"] else "")
        roles = ", ".join(each["roles"]) or ("trusted" if each["trusted"] else "")
        counts = f"until {date_of(each['counts_until_ms'])}" if each["counts"] else f"no: {each['ignored']}"
        table.add_row(
            who,
            shown(roles),
            verdict,
            shown(each["reason"]),
            date_of(each["made_at_ms"]),
            shown(counts),
            style="" if each["counts"] else "dim",
        )
    return table
