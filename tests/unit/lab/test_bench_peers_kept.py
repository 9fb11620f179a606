"""What the comparison with peers keeps, publishes and prints."""

import dataclasses
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.unit.lab.contestants import TALKS, WORK, measured, system
from typer.testing import CliRunner, Result

from grapevine_lab.bench_peers.__main__ import main as bench_peers
from grapevine_lab.bench_peers.columns import NOT_SENT, TITLES, item, markdown, row
from grapevine_lab.bench_peers.shelf import Folder
from grapevine_lab.bench_simulator.reasons import publishable
from grapevine_lab.bench_simulator.runs import Run
from grapevine_lab.bench_simulator.suite import Contest
from grapevine_lab.bench_simulator.systems import System
from grapevine_proto.errors import ConfigError


@pytest.fixture(autouse=True)
def no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)


# --- what is kept -------------------------------------------------------------------------------------


def test_what_was_measured_is_read_back_to_the_bit_and_not_measured_again(tmp_path: Path) -> None:
    first = measured([system("talks", TALKS, ports="one")], tmp_path)
    assert Folder(path=tmp_path).all_of(["talks"]) == first
    assert measured([system("talks", "sys.exit('not again')", ports="one")], tmp_path) == first
    (more,) = measured([system("talks", TALKS, ports="one")], tmp_path, num_repeats=2)
    assert [more.runs[0], more.weighed] == [first[0].runs[0], first[0].weighed]
    assert len(more.runs) == 2


def test_a_failure_loses_nothing_and_is_tried_again(tmp_path: Path) -> None:
    (once,) = measured([system("talks", TALKS, ports="one")], tmp_path)
    (failed,) = measured([system("talks", "sys.exit('it hurts')", ports="one")], tmp_path, num_repeats=2)
    assert "it hurts" in failed.failed
    assert failed.runs == once.runs
    (again,) = measured([system("talks", TALKS, ports="one")], tmp_path, num_repeats=2)
    assert (again.failed, len(again.runs)) == ("", 2)


def test_what_another_version_did_is_measured_again(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path)
    old = Contest(
        system="a", workload=WORK, versions={"a": "1"}, runs=[Run(started_s=0, ready_s=0, round_ends_s=(1, 2))]
    )
    folder.keep(old)
    assert folder.with_what_is_kept(dataclasses.replace(old, runs=[])).runs == old.runs
    newer = Contest(system="a", workload=WORK, versions={"a": "2"})
    assert folder.with_what_is_kept(newer) == newer
    folder.forget(old)
    assert folder.all_of(["a"]) == []


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = Folder(path=tmp_path)
    folder.keep(Contest(system="a", workload=WORK))
    (file,) = tmp_path.glob("*.json")
    file.write_text('{"system": 3}', encoding="utf-8")
    with pytest.raises(ConfigError, match="delete it"):
        folder.all_of(["a"])


def test_what_cannot_be_run_any_more_keeps_its_figures_and_has_the_reason(tmp_path: Path) -> None:
    (once,) = measured([system("talks", TALKS, ports="one")], tmp_path)
    (gone,) = measured([system("talks", TALKS, ports="one", missing="no network")], tmp_path)
    assert gone == dataclasses.replace(once, skipped="no network")
    assert Folder(path=tmp_path).all_of(["talks"]) == [gone]


def told_rounds(name: str) -> System:
    return system(name, "for n in range(1, 11): tell(event='round', round=n, t=float(n))", kind="simulated")


def run_command(monkeypatch: pytest.MonkeyPatch, systems: list[System], *arguments: str) -> Result:
    names = tuple(each.name for each in systems)
    monkeypatch.setattr("grapevine_lab.bench_peers.__main__.SYSTEMS", systems)
    monkeypatch.setattr("grapevine_lab.bench_peers.__main__.NAMES", names)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of the tests stay as they are
    command = typer.Typer()
    command.command()(bench_peers)
    return CliRunner().invoke(command, [*arguments, "--nodes", "2"])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}


def test_a_quick_run_is_kept_apart_from_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ["--out", str(tmp_path)]
    assert run_command(monkeypatch, [told_rounds("a")], *out).exit_code == 0
    whole = contents(tmp_path)
    assert set(whole) == {"a-2-nodes-mlp.json", "peers.md", "peers.json"}
    quick = system("a", "for n in range(1, 6): tell(event='round', round=n, t=2.0 * n)", kind="simulated")
    assert run_command(monkeypatch, [quick], *out, "--quick", "--fresh").exit_code == 0
    assert contents(tmp_path) == whole
    assert set(contents(tmp_path / "quick")) == set(whole)
    assert "| 2 | a | 2.00 |" in (tmp_path / "quick" / "peers.md").read_text(encoding="utf-8")


def test_measuring_one_system_leaves_the_others_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, out = [told_rounds("a"), told_rounds("b")], ["--out", str(tmp_path)]
    assert run_command(monkeypatch, both, *out, "--only", "a").exit_code == 0
    assert run_command(monkeypatch, both, *out, "--only", "b").exit_code == 0
    table = (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert "| 2 | a | 1.00 |" in table
    assert "| 2 | b | 1.00 |" in table


# --- what is published ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "published"),
    [
        ("No module named 'ray'; see ~/.cache/x/log", "No module named 'ray'; see …/log"),
        ("Command '['/root/.cache/a b/bin/python', '-c']' timed out", "Command '['…/a b/bin/python', '-c']' timed out"),
        ('File "/work/wt/here/lab/run.py", line 3', 'File "…/run.py", line 3'),
        ("/tmp is full, and so is /home", "…/ is full, and so is …/"),
        ("tiny @ file:///work/here could not be installed", "tiny @ (an address) could not be installed"),
        ("Looking at https://me:secret@index.inside:8080/simple/x", "Looking at (an address)"),
        ("Pool(host='index.inside', port=443)", "Pool(host='…', port=443)"),
        ("cannot connect to 10.1.2.3:8080", "cannot connect to (an address)"),
        ("node of here-7.inside ended", "node of … ended"),
        ("node of here-7: ended", "node of …: ended"),
        ("\x1b[92mINFO\x1b[0m: up", "INFO: up"),
        # Nothing in these is of this machine.
        ("sdflmq==0.1.0.6 needs numpy<2/3, and/or torch", "sdflmq==0.1.0.6 needs numpy<2/3, and/or torch"),
        ("nobody listens on 127.0.0.1:1883 of there-7", "nobody listens on 127.0.0.1:1883 of there-7"),
        ("no pip 10.0.1, 192.0.1", "no pip 10.0.1, 192.0.1"),
    ],
)
def test_a_reason_is_published_without_what_is_of_this_machine(
    reason: str, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "here-7.inside")
    assert publishable(reason) == published
    assert publishable(published) == published  # it is read back


def test_why_a_system_was_skipped_or_failed_is_kept_without_paths(tmp_path: Path) -> None:
    fails = "sys.exit('it fell over ' + os.getcwd() + '/deep/log')"
    measured([system("away", TALKS, missing=f"{tmp_path}/python is not there"), system("fails", fails)], tmp_path)
    away, failed = Folder(path=tmp_path).all_of(["away", "fails"])
    assert away.skipped == "…/python is not there"
    assert failed.failed.endswith("it fell over …/log")


def test_the_end_of_a_log_stands_below_the_table_as_it_is() -> None:
    assert item("one line") == "- one line\n"
    assert item("it failed:\n| x |\n  y") == "- it failed:\n\n      | x |\n        y\n\n"


def test_a_table_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    command = [sys.executable, "-m", "grapevine_lab.bench_peers", "--table", "--out", str(there)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"nothing that was measured is kept in {there}" in done.stderr
    assert not there.exists()


# --- the table ----------------------------------------------------------------------------------------


def test_a_row_has_each_figure_under_its_title(tmp_path: Path) -> None:
    (contest,) = measured([system("talks", TALKS, ports="one")], tmp_path)
    cells = dict(zip(TITLES, row(contest), strict=True))
    assert cells["seconds a round"] == "1.00"
    assert (cells["bytes a model"], cells["kB a node and round"]) == ("500", "0.500")
    assert (cells["accuracy"], cells["download, MB"], cells["installed, MB"]) == ("0.500", "2.00", "5.00")
    lines = markdown([contest]).splitlines()
    assert {line.count("|") for line in lines} == {len(TITLES) + 1}


def test_where_no_model_travels_the_table_says_so_and_where_nothing_ran_it_has_a_word() -> None:
    still = Run(started_s=0.0, ready_s=None, round_ends_s=(1.0, 2.0), peak_bytes=8_000_000)
    contest = Contest(system="a", workload=WORK, runs=[still], weighed=still)
    cells = dict(zip(TITLES, row(contest), strict=True))
    assert (cells["bytes a model"], cells["PSS a node, MB"], cells["download, MB"]) == (NOT_SENT, "4.00", "")
    away = dict(zip(TITLES, row(Contest(system="a", workload=WORK, skipped="why")), strict=True))
    assert (away["seconds a round"], away["accuracy"]) == ("skipped", "")
