"""docs/simulator.md says what the scenario's reader, the tables and the command say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, get_args

import pytest
import typer

from grapevine_lab.scenarios import find_scenario, scenario_names
from grapevine_lab.simulator import availability
from grapevine_lab.simulator.command import register
from grapevine_lab.simulator.datasets import DATASETS
from grapevine_lab.simulator.hostile import ATTACK_KINDS
from grapevine_lab.simulator.measurements import Reading, Sample, columns_of
from grapevine_lab.simulator.partitions import PARTITION_KINDS
from grapevine_lab.simulator.scenario import Scenario, read_scenario
from grapevine_lab.simulator.timeline import FAULT_KINDS, WORD_KINDS
from grapevine_lab.simulator.topologies import TOPOLOGY_KINDS
from grapevine_proto.errors import ConfigError
from grapevine_tasks.authoring.task_file import read_task_file

DOCS = Path(__file__).parents[4] / "docs"
PAGE = "\n" + (DOCS / "simulator.md").read_text(encoding="utf-8")
WRONG = "qqqqzzzz"  # near no name, so the reader answers with all that it knows
TOPMOST = 2**63 - 1

Content: TypeAlias = dict[str, Any]

BASE: Content = {
    "scenario": {"rounds": 3, "duration_s": 9.0},
    "task": {"name": "digits"},
    "data": {"name": "digits"},
}
CUT = {"from_s": 0.0, "until_s": 1.0, "groups": [[0]]}
REVIEW = {"reviewers": [1, 2]}  # whoever speaks of tasks, and whatever is held against what was said, needs it
# Tables of which there may be many, each with what a first one needs beside the one that is asked about.
ARRAYS: dict[str, dict[str, Any]] = {
    "network.cut": CUT,
    "faults": {},
    "words": {"node": 0, "task": "a"},
    "broker": {"name": "a"},
    "bridge": {"owner": "a", "to": "b"},
    "attack": {"nodes": [0]},
}
OWN_FILE = "a file"  # what the page calls the `data.name` that is a path
FILE = "samples.npz"
# The key that chooses what else a table knows, all that it can be, and what has to be written with some of it.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("name", (*DATASETS, OWN_FILE)),
    "partition": ("kind", PARTITION_KINDS),
    "topology": ("kind", TOPOLOGY_KINDS),
    "availability": ("kind", get_args(availability.Kind)),
    "faults": ("kind", FAULT_KINDS),
    "words": ("kind", WORD_KINDS),
    "attack": ("kind", ATTACK_KINDS),
}
NEEDED = {
    ("topology", "flocky"): {"name": "x"},
    ("topology", "file"): {"path": "x"},
    ("availability", "trace"): {"path": "x"},
    ("faults", "cut"): {"site": "broker"},
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One key as the page has it."""

    table: str
    key: str
    of: tuple[str, ...]  # kinds that know it; empty: all of them
    default: str
    range: str

    def __str__(self) -> str:
        return f"{self.table}.{self.key}"


def rows_below(heading: str) -> list[dict[str, str]]:
    """The first table below a heading, as one mapping from column to cell a row."""
    assert f"\n{heading}\n" in PAGE, heading
    below = PAGE.split(f"\n{heading}\n", 1)[1]
    lines: list[list[str]] = []
    for line in re.split(r"\n#+ ", below)[0].splitlines():
        if line.startswith("|"):
            lines.append([cell.strip() for cell in line.strip("|").split("|")])
        elif lines:
            break
    names, _, *rows = lines
    return [dict(zip(names, row, strict=True)) for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def documented() -> list[Row]:
    """Every key of every table on the page."""
    tables = re.findall(r"^### `\[+([a-z.]+)\]+`$", PAGE, flags=re.MULTILINE)
    found = []
    for table in tables:
        heading = f"### `[[{table}]]`" if table in ARRAYS else f"### `[{table}]`"
        if table == "quick":
            continue  # keys of the other tables
        for row in rows_below(heading):
            (key,) = quoted(row["key"])
            of = tuple(quoted(row.get("of", ""))) or ((OWN_FILE,) if row.get("of") else ())
            found.append(Row(table=table, key=key, of=of, default=row["default"], range=row["range"]))
    return found


ROWS = documented()


def content_of(table: str, kind: str = "", entries: Mapping[str, object] | None = None) -> Content:
    """A scenario's content in which one table is of a kind, with some entries over it."""
    content: Content = {name: dict(keys) for name, keys in BASE.items()}
    chosen = {KINDS[table][0]: FILE if kind == OWN_FILE else kind} | NEEDED.get((table, kind), {}) if kind else {}
    if table in ("words", "life"):
        content["review"] = dict(REVIEW)
    if table == "bridge":
        content["broker"] = [{"name": "a"}, {"name": "b"}]
    if table in ARRAYS:
        outer, _, last = table.rpartition(".")
        written = ARRAYS[table] | chosen | dict(entries or {})
        first = [{"kind": "publish", **ARRAYS["words"]}] if table == "words" and kind != "publish" else []
        (content.setdefault(outer, {}) if outer else content)[last] = [*first, written]
        return content
    content.setdefault(table, {}).update({**(REVIEW if table == "review" else {}), **chosen, **(entries or {})})
    return content


def entry_of(content: Content, table: str) -> dict[str, Any]:
    """The table that `content_of` was asked about."""
    at: Any = content
    for key in table.split("."):
        at = at[key]
    entry: dict[str, Any] = at[-1] if isinstance(at, list) else at
    return entry


def read(folder: Path, content: Content) -> Scenario:
    path = folder / "scenario.toml"
    path.write_text("".join(f"{table} = {toml(keys)}\n" for table, keys in content.items()), encoding="utf-8")
    return read_scenario(path)


def toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return f'"{value}"'
        case _:
            return repr(value)


def answer(folder: Path, content: Content) -> str:
    """What the reader says to something that is wrong; "" if it finds nothing wrong."""
    try:
        read(folder, content)
    except ConfigError as error:
        return str(error)
    return ""


def kinds_of(table: str) -> tuple[str, ...]:
    return KINDS[table][1] if table in KINDS else ("",)


def variants() -> list[tuple[str, str]]:
    return [(table, kind) for table in dict.fromkeys(row.table for row in ROWS) for kind in kinds_of(table)]


def kind_for(row: Row) -> str:
    """A kind that knows the key; "" where the key is what says the kind."""
    return "" if row.table in KINDS and row.key == KINDS[row.table][0] else (row.of or kinds_of(row.table))[0]


@pytest.mark.parametrize(("table", "kind"), variants())
def test_every_key_that_the_reader_knows_is_on_the_page_and_no_other(tmp_path: Path, table: str, kind: str) -> None:
    told = answer(tmp_path, content_of(table, kind, {WRONG: 1}))
    assert f"{WRONG}: unknown key; known here: " in told
    known = set(told.rsplit("known here: ", 1)[1].split(", "))
    assert {row.key for row in ROWS if row.table == table and (not row.of or kind in row.of)} == known


def test_every_table_that_the_reader_knows_is_on_the_page(tmp_path: Path) -> None:
    told = answer(tmp_path, BASE | {WRONG: {"x": 1}})
    known = set(told.rsplit("known here: ", 1)[1].split(", "))
    assert {row.table for row in ROWS} - {"network.cut"} == known
    assert "\n### `[quick]`\n" in PAGE  # taken out before anything is read


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_ranges_and_choices_are_those_of_the_reader(tmp_path: Path, row: Row) -> None:
    kind = kind_for(row)
    told = answer(tmp_path, content_of(row.table, kind, {row.key: WRONG}))
    numbers = re.search(r"must be a (?:whole )?number from (\S+) to (\S+)$", told)
    choices = re.search(r"known here: (.*)$", told)
    if numbers:
        low, high = (bound(text, row) for text in row.range.split(" to "))
        # A number's bounds are told with six digits, and so is the largest integer's in floating point.
        assert (low, high) == pytest.approx(tuple(map(float, numbers.groups())), rel=1e-6)
    elif "must be true or false" in told:
        assert row.range == "true or false"
    elif choices:
        assert set(choices[1].split(", ")) == set(quoted(row.range))
    elif row.key == "models":
        told = answer(tmp_path, content_of(row.table, entries={row.key: [WRONG]}))
        assert told.endswith(f"is none; there are {', '.join(quoted(row.range))}")
    else:
        assert " to " not in row.range
        assert row.range != "true or false"


def bound(text: str, row: Row) -> float:
    """A bound as the page writes it; another key in its place means what that key is in these tests."""
    if text == "2⁶³ − 1":
        return float(TOPMOST)
    named: dict[str, float] = {"`from_s`": CUT["from_s"], "`num_users`": 10.0, "`nodes.num` − 1": 9.0}  # type: ignore[dict-item]
    return named[text] if text in named else float(text.replace(",", ""))


@pytest.mark.parametrize("row", [row for row in ROWS if row.default.startswith("`")], ids=str)
def test_a_default_written_out_changes_nothing(tmp_path: Path, row: Row) -> None:
    (written,) = quoted(row.default)
    default = 10 if written == "nodes.num" else tomllib.loads(f"value = {written}")["value"]
    told, untold = (content_of(row.table, kind_for(row), {row.key: default}) for _ in range(2))
    del entry_of(untold, row.table)[row.key]
    assert read(tmp_path, told) == read(tmp_path, untold)


@pytest.mark.parametrize(("heading", "kind"), [("### `models`", Reading), ("### `nodes`", Sample)])
def test_every_column_is_on_the_page(heading: str, kind: type[Reading] | type[Sample]) -> None:
    rows = rows_below(heading)
    columns = columns_of(kind)
    assert [(*quoted(row["column"]), row["type"]) for row in rows] == [(column.name, column.kind) for column in columns]
    for row, column in zip(rows, columns, strict=True):
        assert set(column.words) <= set(quoted(row["meaning"]))


def test_every_scenario_that_comes_with_it_is_on_the_page() -> None:
    told = [name for row in rows_below("## Scenarios that come with it") for name in quoted(row["name"])]
    assert sorted(told) == sorted(scenario_names())


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", scenario_names())
def test_scenarios_that_come_with_it_are_read_and_have_a_quick_size(name: str, quick: bool) -> None:
    path = find_scenario(name)
    assert read_scenario(path, quick=quick).name
    assert tomllib.loads(path.read_text(encoding="utf-8"))["quick"]


def test_scenarios_and_tasks_in_the_guide_are_read(tmp_path: Path) -> None:
    guide = (DOCS / "guide-researcher.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", guide, flags=re.DOTALL)
    assert len(blocks) >= 3
    path = tmp_path / "block.toml"
    for block in blocks:
        path.write_text(block, encoding="utf-8")
        assert (read_scenario(path) if "[scenario]" in block else read_task_file(path)).name


def test_every_option_of_the_command_is_on_the_page() -> None:
    app = typer.Typer()
    register(app)
    known = {name for parameter in typer.main.get_command(app).params for name in parameter.opts} - {
        "--install-completion",
        "--show-completion",
    }
    told = {name for row in rows_below("# The simulator") for name in quoted(row["option"])}
    assert told == known
