"""`grapevine apply`, `get`, `explain` and `delete`: applications, with kubectl's words."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from grapevine_agent.cli.app_words import BEFORE, standing_here
from grapevine_agent.cli.asking import ask_or_connect
from grapevine_agent.cli.output import (
    ConfigOption,
    JsonOption,
    answer,
    configuration,
    console,
    counted,
    escaped,
    shown,
    tell,
)
from grapevine_proto.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from grapevine_agent.config.agent_toml import Config
    from grapevine_agent.line import Line

KINDS: Final = ("apps", "app", "application", "applications")


class Form(StrEnum):
    """How `get` answers."""

    json = "json"
    yaml = "yaml"
    wide = "wide"


FileOption = Annotated[
    Path, typer.Option("--filename", "-f", help="The application, in YAML; - reads standard input.", allow_dash=True)
]
NameArgument = Annotated[str, typer.Argument(help="The application's name, its id, or author/name.")]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    app.command("apply")(apply)
    app.command("get")(get)
    app.command("explain")(explain)
    app.command("delete")(delete)


def apply(
    filename: FileOption,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of it, and where it would run; sign nothing.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an application (OAM v1beta1, YAML) and announce it. What is applied again takes the place of what was.

    Each agent decides for itself whether a component is its own, once reviewers whom it trusts have approved.
    """
    from grapevine_agent.intent.reading import read_applications
    from grapevine_agent.line import open_line

    drafts = read_applications(_read(filename), "standard input" if str(filename) == "-" else str(filename))
    with open_line(configuration(config), tell=tell) as line:
        results = [_apply_one(draft, line, dry_run=dry_run) for draft in drafts]
    answer(results, as_json=as_json, text="\n".join(map(_planned if dry_run else _applied, results)))


def _apply_one(draft: Any, line: Line, *, dry_run: bool) -> dict[str, Any]:
    from grapevine_agent.intent.reading import with_tasks
    from grapevine_proto.application_codec import encode_application

    found = line.ask("resolve", tasks=list(draft.tasks))
    spec = encode_application(with_tasks(draft, found["peer"], found["tasks"]))
    result: dict[str, Any] = line.ask("would_place" if dry_run else "apply", spec=spec.hex())
    return result


def _read(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; write the path of an application in YAML") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _applied(result: dict[str, Any]) -> str:
    lines = [
        f"application [bold]{shown(result['name'])}[/] {shown(result['did'])}",
        f"  id         {result['application']}",
        f"  standing   {standing_here(result)}",
    ]
    if result["standing"] == "waiting":
        lines.append(f"  next       reviewers: grapevine review approve {result['application'][:12]}")
    return "\n".join(lines)


def _planned(result: dict[str, Any]) -> str:
    lines = [f"application [bold]{shown(result['name'])}[/] would be {shown(result['did'])} (dry run)"]
    for each in result["components"]:
        wanted, seen = each["replicas"] or "all", counted(each["num_seen"], "agent")
        placed = ", ".join(each["placed"]) or "none"
        lines.append(
            f"  {shown(each['name'])}: {wanted} wanted; {each['num_able']} of {seen} seen here qualify: {placed}"
        )
    lines.append("  what their owners, reviewers and limits say is not known before it is applied")
    return "\n".join(lines)


def get(
    kind: Annotated[str, typer.Argument(help="What to get: apps.")] = "apps",
    name: Annotated[str, typer.Argument(help="One of them: its name, its id, or author/name.")] = "",
    output: Annotated[Form | None, typer.Option("--output", "-o", help="json, yaml or wide.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the applications that are known here, or one of them as it was signed (-o yaml, -o json)."""
    if kind not in KINDS:
        raise RequestError(
            f"get {shown(kind, 40)}: there are apps; tasks: grapevine review list, peers: grapevine peers"
        )
    result = ask_or_connect(configuration(config), "apps", {"name": name})
    if as_json:
        answer(result, as_json=True, text="")
    elif output in (Form.json, Form.yaml):
        _print_manifests([each["manifest"] for each in result["apps"]], output, is_one=bool(name))
    elif not result["apps"]:
        console().print("no applications are known here; make one: grapevine apply -f app.yaml")
    else:
        console().print(_table(result["apps"], result["peer"], is_wide=output is Form.wide))


def _print_manifests(manifests: list[dict[str, Any]], form: Form, *, is_one: bool) -> None:
    if form is Form.json:
        whole = manifests[0] if is_one else {"apiVersion": "v1", "kind": "List", "items": manifests}
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")
        return
    from grapevine_agent.intent.yaml_tree import written

    sys.stdout.write(written(manifests))


def _table(apps: list[dict[str, Any]], peer: str, *, is_wide: bool) -> str:
    """Columns as kubectl has them, a line for each component: never folded, so that other programs can read them."""
    rows = [
        ["NAME", "STANDING", "COMPONENT", "TYPE", "READY", "HERE", "AUTHOR", *(("ID", "APPLIED") if is_wide else ())]
    ]
    for each in apps:
        standing = each["standing"] + ("*" if each["is_before"] else "")
        for component in each["components"]:
            wanted = component["replicas"] or component["offered"]
            ready = f"{len(component['running'])}/{wanted}"
            here = "yes" if peer in component["running"] else "no"
            row = [each["name"], standing, component["name"], component["type"], ready, here, each["author"]]
            rows.append([*row, *((each["application"][:12], each["applied_at"]) if is_wide else ())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["   ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if any(each["is_before"] for each in apps):
        lines.append(f"* {BEFORE}")
    return escaped("\n".join(lines))


def explain(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say of each component of an application why it runs here or does not, and where else it does."""
    result = ask_or_connect(configuration(config), "explain", {"name": name})
    answer(result, as_json=as_json, text=_explained(result))


def _explained(result: dict[str, Any]) -> str:
    lines = [
        f"[bold]{shown(result['name'])}[/] by {result['author']} ({result['application'][:12]})",
        f"  {standing_here(result)}",
    ]
    if result["is_before"]:
        lines.append(f"  {BEFORE}")
    for each in result["components"]:
        wanted = each["replicas"] or "wherever it qualifies"
        lines.append(
            f"\n[bold]{shown(each['name'])}[/] ({each['type']}; wanted: {wanted}; offered by {each['offered']}, "
            f"running on {len(each['running'])})"
        )
        lines.append(f"  here: {each['here']['state']}")
        lines += [f"    {shown(why)}" for why in each["here"]["why"]]
        for peer in each["peers"]:
            name = f"{peer['peer']} {shown(peer['name'], 40)}".rstrip()
            state = "running" if peer["peer"] in each["running"] else "chosen"
            why = state if peer["chosen"] else "not: " + shown("; ".join(peer["why_not"]) or result["why"])
            lines.append(f"  {name}: {why}")
    return "\n".join(lines)


def delete(
    name: Annotated[str, typer.Argument(help="The application's name or id; also: app NAME, as in kubectl.")] = "",
    second: Annotated[str, typer.Argument(hidden=True)] = "",
    filename: Annotated[
        Path | None, typer.Option("--filename", "-f", help="The applications of this file.", allow_dash=True)
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; everybody will see it.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an application of this peer's own: what runs of it ends, wherever it does."""
    names = _names_to_delete(second if name in KINDS and second else name, filename)
    loaded = configuration(config)
    results = _deleted(names, reason, loaded)
    answer(
        results, as_json=as_json, text="\n".join(f"application [bold]{shown(e['name'])}[/] deleted" for e in results)
    )


def _names_to_delete(name: str, filename: Path | None) -> list[str]:
    if filename is None:
        if not name:
            raise RequestError("no application is named: grapevine delete NAME, or -f app.yaml")
        return [name]
    from grapevine_agent.intent.reading import read_applications

    return [draft.name for draft in read_applications(_read(filename), str(filename))]


def _deleted(names: list[str], reason: str, config: Config) -> list[dict[str, Any]]:
    from grapevine_agent.line import open_line

    with open_line(config, tell=tell) as line:
        return [line.ask("delete", name=name, reason=reason) for name in names]
