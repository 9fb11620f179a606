"""What `grapevine data` finds in the configured sources, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from grapevine_agent.cli.asking import ask, ask_or_connect
from grapevine_agent.cli.output import answer, configuration, console, counted, shown
from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.firmware import FirmwareProfile, device_profile
from grapevine_agent.control.protocol import NoAnswerError, NoServiceError
from grapevine_agent.data.formats import describe
from grapevine_agent.data.inspection import Inspection, inspect
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.readings import readers
from grapevine_agent.data.source import DataSource
from grapevine_agent.data.survey import Statistics, survey
from grapevine_agent.data.times import shown_time
from grapevine_agent.service import clock
from grapevine_agent.service.assembly import configured_sources
from grapevine_agent.service.fitting import DeviceFit
from grapevine_proto.errors import ConfigError, TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.built import load_built
from grapevine_tasks.suggestions import did_you_mean

EXIT_FAILED = 1


def list_sources(config: Path | None, *, as_json: bool) -> None:
    """List the configured sources, and whether each can be read."""
    lines = [_line(source) for source in _sources(configuration(config))]
    answer(lines, as_json=as_json, text=counted(len(lines), "source") if lines else _NONE)
    if lines and not as_json:
        table = Table("source", "kind", "format", "samples", "where", "")
        for line in lines:
            samples = "" if line["samples"] is None else f"{line['samples']:,}"
            where, trouble = escape(line["path"]), escape(line["trouble"])
            table.add_row(escape(line["name"]), escape(line["kind"]), line["source"], samples, where, trouble)
        console().print(table)


def check_sources(name: str | None, task: str | None, config: Path | None, *, as_json: bool) -> None:
    """Read the sources as a task would, and show what is in them. Raises typer.Exit(1) where one cannot be used."""
    loaded = configuration(config)
    sources = _named(_sources(loaded), name)
    manifest = _manifest(loaded, task) if task else None
    fit = DeviceFit(_profile(loaded), loaded.limits.step_timeout_s)
    why_not = fit.reason(manifest.name, manifest) if manifest is not None else ""
    silent = _silent(loaded, sources)
    results = [_check(source, manifest, fit, why_not) | {"silent": silent.get(source.name, [])} for source in sources]
    answer(results, as_json=as_json, text=counted(len(results), "source") if results else _NONE)
    if not as_json:
        for result in results:
            _show(result)
    if not results or any(result["trouble"] for result in results if manifest is None) or _fits_none(results):
        raise typer.Exit(EXIT_FAILED)


_NONE = escape("no data source is configured: add a [[data]] table to the configuration")


def _fits_none(results: list[dict[str, Any]]) -> bool:
    asked = [result for result in results if result["fits"] is not None]
    return bool(asked) and not any(result["fits"] for result in asked)


def _profile(config: Config) -> FirmwareProfile:
    return device_profile(config)


def _sources(config: Config) -> tuple[DataSource, ...]:
    return configured_sources(config, _profile(config))


def _named(sources: tuple[DataSource, ...], name: str | None) -> tuple[DataSource, ...]:
    if name is None:
        return sources
    found = tuple(source for source in sources if source.name == name)
    if not found:
        known = [source.name for source in sources]
        raise ConfigError(f"no data source is named {name!r}; {did_you_mean(name, known) if known else _NONE}")
    return found


def _manifest(config: Config, task: str) -> TaskManifest:
    """The manifest of a task's folder, or of a task that the agent has heard of."""
    if Path(task).is_dir():
        return load_built(Path(task)).draft
    from grapevine_proto.manifest_codec import decode_manifest

    found = ask_or_connect(config, "manifest", {"task": task})
    return decode_manifest(bytes.fromhex(found["manifest"]))


def _line(source: DataSource) -> dict[str, Any]:
    line = {"name": source.name, "kind": source.kind, "source": source.format, "path": _where(source)}
    try:
        return {**line, "samples": describe(source, None).arrays["x"].shape[0], "trouble": ""}
    except TaskError as error:
        return {**line, "samples": None, "trouble": str(error)}


def _where(source: DataSource) -> str:
    if source.recording is None:
        return str(source.path)
    return ", ".join(dict.fromkeys(reader.plan.topic or source.recording.topic for reader in readers(source)))


def _check(source: DataSource, manifest: TaskManifest | None, fit: DeviceFit, why_not: str) -> dict[str, Any]:
    """What is in a source; with a task, whether it fits: `why_not` says why none could."""
    result: dict[str, Any] = {"name": source.name, "kind": source.kind, "trouble": "", "fits": None, "why": ""}
    if manifest is not None:
        now_s, room = clock.now().wall_ms / 1000, fit.room(manifest.name)
        statistics = Statistics(source, manifest.data)
        is_asked = source.kind == manifest.data.kind
        looked = inspect(source, manifest.data, [statistics]) if is_asked else Inspection()
        match = match_source(manifest.data, [source], now_s=now_s, why_no_room=room, look=lambda *_: looked)
        result |= {"fits": bool(match) and not why_not, "why": why_not if match and why_not else str(match)}
        if match.memory is not None:
            prepare_mb, train_mb = fit.memory_mb(manifest, match.memory)
            result |= {"prepare_mb": prepare_mb, "train_mb": train_mb}
        if match and looked.description is not None:
            return statistics.told(looked.description) | result
    try:
        return survey(source) | result
    except TaskError as error:
        return result | {"source": source.format, "path": str(source.path), "trouble": str(error)}


def _silent(config: Config, sources: tuple[DataSource, ...]) -> dict[str, list[str]]:
    """Of each source of live topics that records nothing now, why: the agent knows, if it runs."""
    names = [source.name for source in sources if source.recording is not None]
    if not names:
        return {}
    try:
        told = {each["name"]: each["why"] for each in ask(config, "status", {})["sensors"]}
    except NoServiceError:
        why = "no agent runs here, and only while it runs is anything recorded"
        return {name: [why] for name in names}
    except NoAnswerError as error:
        return {name: [str(error)] for name in names}
    unknown = ["the agent that runs does not know this source: restart it to have it read the configuration"]
    return {name: told.get(name, unknown) for name in names}


def _show(result: dict[str, Any]) -> None:
    console().print(
        f"\n[bold]{escape(result['name'])}[/] ({escape(result['kind'])}, {result['source']}) {escape(result['path'])}"
    )
    if result["fits"] is not None:
        word = "[green]fits[/]" if result["fits"] else "[red]does not fit[/]"
        console().print(f"  {word}: {escape(result['why'])}")
    if result.get("train_mb"):
        console().print(f"  memory: about {result['prepare_mb']:,} MB to prepare, {result['train_mb']:,} MB to train")
    if result["silent"]:
        console().print("  [yellow]nothing is being recorded:[/]")
        for why in result["silent"]:
            console().print(f"    {shown(why)}")
    if result["trouble"]:
        console().print(f"  [red]{escape(result['trouble'])}[/]")
        return
    arrays = ", ".join(f"{name} {each['shape']} {each['dtype']}" for name, each in result["arrays"].items())
    console().print(
        f"  {counted(result['samples'], 'sample')}: {escape(arrays)}; {result['bytes_on_disk']:,} bytes on disk"
    )
    if result["newest_s"] is not None:
        console().print(f"  newest: {shown_time(result['newest_s'], clock.now().wall_ms / 1000)}")
    if result["classes"]:
        told = ", ".join(f"{escape(name)}: {count:,}" for name, count in list(result["classes"].items())[:40])
        console().print(f"  classes: {told}")
    if result["columns"]:
        console().print(_statistics(result["columns"]))
    for sample in result["preview"]:
        label = "" if sample["y"] is None else f" → {escape(str(sample['y']))}"
        if "image" in sample:
            console().print(f"  sample{label}")
            console().print(sample["image"], markup=False)
        else:
            console().print(f"  {escape(str(sample['x']))}{label}")


def _statistics(columns: list[dict[str, Any]]) -> Table:
    table = Table("column", "min", "mean", "max", "std", "missing", "infinite")
    for column in columns:
        numbers = [f"{column[key]:.6g}" if key in column else "" for key in ("min", "mean", "max", "std")]
        table.add_row(escape(column["name"]), *numbers, str(column["missing"]), str(column["infinite"]))
    return table
