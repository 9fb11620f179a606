"""Figures that are kept, and README.md's table, which is made of them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from grapevine_lab.bench import kept, readme
from grapevine_lab.bench.figures import Figure, Skipped, Target, figure
from grapevine_lab.bench.kept import Entry
from grapevine_lab.bench.suite import NAMES, names_of
from grapevine_lab.commits import CHECKOUT
from grapevine_proto.errors import ConfigError

PAGE = (CHECKOUT / "README.md").read_text(encoding="utf-8")
EARLIER = {
    "date": "2026-01-01",
    "commit": "a" * 12,
    "load": 0.1,
    "machine": {"cores": 2, "processor": "P", "system": "Linux x86_64"},
    "versions": {"python": "3.11.1", "numpy": "2.0"},
}
LATER = {
    **EARLIER,
    "date": "2026-01-09",
    "load": 4.0,
    "commit": "b" * 12,
    "versions": {"python": "3.11.1", "numpy": "2.1"},
}


def made_up(value: float = 0.5) -> dict[str, Entry]:
    """Every figure of the table, with a target that 0.6 meets and 0.5 does not."""
    entries: dict[str, list[Figure]] = {}
    for line in readme.ROWS:
        for shown in line.shown:
            found = figure(shown.name, shown.what, [value], target=Target(limit=0.6, at_most=False))
            entries.setdefault(shown.name, []).append(found)
    return {name: Entry(made=EARLIER, figures=tuple(figures)) for name, figures in entries.items()}


def test_the_table_of_the_readme_is_made_of_the_figures_that_are_kept() -> None:
    entries = kept.read(CHECKOUT / readme.RESULTS)
    assert readme.with_table(PAGE, entries) == PAGE, "make bench-table"
    assert not readme.missing(entries)


def test_a_table_that_was_edited_by_hand_is_not_the_one_that_is_made() -> None:
    entries = kept.read(CHECKOUT / readme.RESULTS)
    begin = PAGE.index(readme.BEGIN)
    digit = next(at for at in range(PAGE.index("known peers", begin), len(PAGE)) if PAGE[at].isdigit())
    edited = PAGE[:digit] + str((int(PAGE[digit]) + 1) % 10) + PAGE[digit + 1 :]
    assert readme.with_table(edited, entries) == PAGE


def test_every_row_is_of_a_benchmark_that_there_is() -> None:
    assert {shown.name for line in readme.ROWS for shown in line.shown} <= set(NAMES)


def test_values_targets_and_verdicts_come_from_the_figures() -> None:
    rows = {line.text: row for line, row in zip(readme.ROWS, readme.table(made_up()).splitlines()[2:], strict=False)}
    memory, *_, folding = rows.values()
    assert memory.endswith("| 0.500 / 0.500 MB | ≥ 0.6 MB, missed |")
    assert folding.endswith("| 0.500; 0.500 × | ≥ 0.6, missed; ≥ 0.6 ×, missed |")
    assert "missed" not in readme.table(made_up(0.7))


def test_below_the_table_stand_all_days_machines_and_versions() -> None:
    entries = made_up()
    name = next(iter(entries))
    entries[name] = Entry(made=LATER, figures=entries[name].figures)
    said = readme.table(entries).splitlines()[-1]
    assert "Measured 2026-01-01 to 2026-01-09 with 2 cores of P, Linux x86_64" in said
    assert ", busy with other work (load 4): python 3.11.1, numpy 2.1 and 2.0. [Quartiles" in said
    assert "busy" not in readme.table(made_up())


def test_what_is_not_measured_is_shown_as_such_and_said_with_what_to_run(tmp_path: Path) -> None:
    page, results = tmp_path / "README.md", tmp_path / "bench.json"
    page.write_text(f"before\n{readme.BEGIN}\n{readme.END}\nafter\n", encoding="utf-8")
    kept.add(results, [each for entry in made_up().values() for each in entry.figures][1:], EARLIER)
    app = typer.Typer()
    app.command()(readme.main)
    done = CliRunner().invoke(app, [str(results), "--readme", str(page)])
    assert done.exit_code == 1
    assert "--only service_memory --out" in done.stderr
    written = page.read_text(encoding="utf-8")
    assert written.startswith(f"before\n{readme.BEGIN}\n| | median")
    assert written.endswith(f"{readme.END}\nafter\n")
    assert "| not measured / 0.500 MB |" in written
    assert readme.table({}).count("| not measured |") == len(readme.ROWS)


@pytest.mark.parametrize("page", ["", readme.BEGIN, f"{readme.END}{readme.BEGIN}", f"{readme.BEGIN}{readme.END}" * 2])
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    with pytest.raises(ConfigError, match="each once"):
        readme.with_table(page, {})


def test_a_run_replaces_what_it_measured_and_leaves_the_rest_with_its_own_commit(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    kept.add(path, [figure("one", "x", [1.0], unit="s"), figure("one", "y", [1.0]), figure("two", "x", [2.0])], EARLIER)
    assert kept.add(path, [figure("one", "x", [3.0, 4.0, 5.0])], LATER) == []
    entries = kept.read(path)
    assert [entries[name].made["commit"] for name in ("one", "two")] == ["b" * 12, "a" * 12]
    assert entries["one"].figures == (figure("one", "x", [3.0, 4.0, 5.0]),)
    assert entries["two"].figures == (figure("two", "x", [2.0]),)


def test_what_was_skipped_or_failed_erases_nothing_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    target = Target(limit=1.0, at_most=True)
    kept.add(path, [figure("one", "x", [1.0], target=target)], EARLIER)
    beside = Skipped(name="two", reason="one part of it")
    assert kept.add(path, [Skipped(name="one", reason="no"), beside, figure("two", "x", [2.0])], LATER) == ["one"]
    assert kept.read(path)["one"] == Entry(made=EARLIER, figures=(figure("one", "x", [1.0], target=target),))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "[]", '{"one": {}}', '{"one": {"made": {}, "figures": [{"what": "x"}]}}'])
def test_a_file_of_another_kind_is_named_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bench\.json: cannot be read"):
        kept.add(path, [figure("one", "x", [1.0])], LATER)
    assert path.read_text(encoding="utf-8") == text


def test_a_missing_folder_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    assert kept.read(tmp_path / "bench.json") == {}
    with pytest.raises(ConfigError, match="there is no folder"):
        kept.read(tmp_path / "nowhere" / "bench.json")


def test_what_made_a_figure_says_day_commit_machine_and_versions() -> None:
    made = kept.made_here()
    assert json.loads(json.dumps(made)) == made
    assert made["machine"]["cores"] >= 1
    assert {"python", "numpy"} <= set(made["versions"])
    assert set(made) == {"date", "commit", "load", "machine", "versions"}


def test_a_file_of_benchmarks_stands_for_all_in_it_and_a_slip_gets_a_suggestion() -> None:
    assert names_of(["merging", "judging"]) == ["merge_bandwidth", "judging"]
    assert names_of(["service"]) == ["service_memory", "service_idle_cpu", "service_memory_many"]
    with pytest.raises(typer.BadParameter, match="'judgin' is not known; did you mean judging"):
        names_of(["judgin"])
