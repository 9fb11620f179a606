"""What `grapevine task check` finds: what a task costs, and where it fits, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from grapevine_agent.cli.output import answer, configuration, console
from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.firmware import device_profile, load_profile
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.requests.costs import ENVELOPE_BYTES, EXAMPLE_MEMBERS, CostReport, cost_report
from grapevine_agent.requests.merging_words import merging_lines
from grapevine_agent.service.assembly import configured_sources
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_tasks.built import load_built
from grapevine_tasks.pipelines import in_units


def check_task(path: Path, profile: list[str] | None, config: Path | None, *, as_json: bool) -> None:
    """Check, and tell. Raises TaskError where no device can train it."""
    profiles = [load_profile(name) for name in profile] if profile else None
    manifest = _manifest(path)
    report = cost_report(manifest, profiles)
    found = _baseline(manifest, configuration(config)) if config is not None else None
    merging = merging_lines(manifest)
    beside = {"merging": merging} | ({} if found is None else {"baseline": found})
    answer(report.as_json() | beside, as_json=as_json, text=f"[bold]{escape(report.name)}[/]")
    if not as_json:
        if found is not None:
            console().print(f"baseline: {escape(_told(found))}")
        console().print(costs_table(report), merging_table(merging), fits_table(report), sep="\n")
        for warning in report.warnings:
            console().print(f"[yellow]warning:[/] {escape(warning)}")
    if not any(fit.fits for fit in report.fits):
        tried = ", ".join(fit.profile for fit in report.fits)
        raise TaskError(f"{report.name} fits none of these profiles: {tried}; make the model or its batch smaller")


def _baseline(manifest: TaskManifest, config: Config) -> dict[str, Any]:
    """What a model without any learning comes to on the first source of a configuration that fits the task."""
    profile = device_profile(config)
    match = match_source(manifest.data, configured_sources(config, profile))
    metric = manifest.training.metric
    if match.source is None:
        return {"metric_name": metric, "value": None, "why": str(match)}
    samples = load_samples(manifest.data, match.source, metric)
    found, num = samples.baseline, len(samples.x_test)
    return {
        "metric_name": metric,
        "source": match.source.name,
        "num_evaluated": num,
        "name": found.name if found is not None else "",
        "value": found.value if found is not None else None,
        "in_units": in_units(metric, found.value, samples.unit) if found is not None else None,
        "why": "" if found is not None else f"{match.source.name} holds out no samples to measure it on",
    }


def _told(baseline: dict[str, Any]) -> str:
    if baseline["value"] is None:
        return f"none: {baseline['why']}"
    units = f" ({baseline['in_units']:.3g} in its data's units)" if baseline["in_units"] is not None else ""
    return (
        f"{baseline['metric_name']} {baseline['value']:.3f}{units} by {baseline['name']}, which needs no learning, on "
        f"{baseline['num_evaluated']:,} held-out samples of {baseline['source']}"
    )


def _manifest(path: Path) -> TaskManifest:
    if path.is_dir() or path.name == "task.toml":
        return load_built(path if path.is_dir() else path.parent).draft
    try:
        return decode_manifest(path.read_bytes())
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from error
    except WireError as error:
        raise TaskError(
            f"{path} is no manifest ({error}): name a task's folder, its task.toml or a manifest"
        ) from error


def costs_table(report: CostReport) -> Table:
    """What a task costs anywhere, for people."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    memory = report.memory
    operators = ", ".join(f"{number} {name}" for name, number in report.operators.items())
    for row in (
        ("model", f"{report.num_parameters:,} parameters, {report.num_buffers:,} numbers of state"),
        ("program", f"{report.num_nodes} nodes: {operators}"),
        ("to fetch", f"manifest {_bytes(report.manifest_bytes)}, initial weights {_bytes(report.weights_bytes)}"),
        (
            "to send",
            f"{_bytes(report.update_bytes)} an update, about {_bytes(report.round_bytes)} a round "
            f"among {EXAMPLE_MEMBERS} members, with up to {_bytes(ENVELOPE_BYTES)} around each, "
            f"as {' or '.join(report.encodings)}",
        ),
        ("to compute", f"{_flop(report.flops_per_sample)} a sample, {_flop(report.step_flops)} a training step"),
        (
            "to move",
            f"{_bytes(report.step_bytes_moved)} read and written a training step, by {report.step_kernels:,} kernels",
        ),
        (
            "to evaluate",
            f"{report.evaluation_samples:,} samples or more: {_flop(report.evaluation_flops)}, "
            f"{_bytes(report.evaluation_bytes_moved)} read and written",
        ),
        (
            "memory",
            f"about {_bytes(memory.training_bytes)} to train with batches of {report.batch_size} (model "
            f"{_bytes(memory.model_bytes)}, optimiser {_bytes(memory.optimiser_bytes)}, gradients "
            f"{_bytes(memory.gradient_bytes)}, activations {_bytes(memory.activation_bytes)}), "
            f"{_bytes(memory.evaluation_bytes)} to evaluate; {report.trainer_mb:,} MB with PyTorch",
        ),
        ("one value", f"up to {_bytes(report.largest_value_bytes)}"),
    ):
        table.add_row(*row)
    return table


def merging_table(lines: Mapping[str, str]) -> Table:
    """What a task's choices of sending and merging mean, for people."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, line in lines.items():
        table.add_row(name, escape(line))
    return table


def fits_table(report: CostReport) -> Group:
    """Which devices a task fits, and below that why it does not fit the others, for people."""
    table = Table(caption="times are estimates", caption_justify="left")
    for name in ("profile", "fits", "MB", "step", "evaluation", "round"):
        table.add_column(name, no_wrap=True)
    for fit in report.fits:
        times = map(_seconds, (fit.step_s, fit.evaluation_s, fit.round_s))
        from_mb = f"[yellow]with {fit.fits_from_mb / 1024:g} GB[/]" if fit.fits_from_mb else "[red]no[/]"
        mark = "[green]yes[/]" if fit.fits else from_mb
        table.add_row(escape(fit.profile), mark, f"{fit.allowed_mb:,}", *times)
    reasons = [Text(f"{fit.profile}: {reason}") for fit in report.fits for reason in fit.reasons]
    return Group(table, *reasons)


def _seconds(number: float | None) -> str:
    if number is None:
        return ""
    if number < 0.001:
        return "< 1 ms"
    return f"{number:,.1f} s" if number >= 1 else f"{1000 * number:.0f} ms"


def _bytes(number: int) -> str:
    return _with_prefix(number, 1024, "B")


def _flop(number: int) -> str:
    return _with_prefix(number, 1000, "FLOP")


def _with_prefix(number: int, base: int, unit: str) -> str:
    """Three digits or so: 19.1 kB, 2.4 MFLOP."""
    power = min(4, int(math.log(number, base))) if number >= base else 0
    scaled = number / base**power
    digits = f"{scaled:.0f}" if power == 0 or scaled >= 100 else f"{scaled:.3g}"
    return f"{digits} {' kMGT'[power].strip()}{unit}"
