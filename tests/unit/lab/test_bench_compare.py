"""Two builds in turns: how a commit becomes one, and what their readings say. The commits are of a tiny repository."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from grapevine_lab.bench.figures import Skipped
from grapevine_lab.bench_compare.__main__ import compare
from grapevine_lab.bench_compare.builds import Build, built
from grapevine_lab.bench_compare.table import as_json, cells, print_table
from grapevine_lab.bench_compare.taking import words_of
from grapevine_lab.bench_compare.turns import Reading, Row, Side, in_turns
from grapevine_lab.commits import described, full_commit
from grapevine_proto.errors import ConfigError, GrapevineError

SETUP = 'setup:\n\techo built >> {built}\n\tmkdir -p "$(VENV)/bin"\n\tln -s "$(PYTHON)" "$(VENV)/bin/python"\n'
SUITE = "NAMES = {names!r}\n"
MAIN = """import json, sys
names = [name for word, name in zip(sys.argv, sys.argv[1:]) if word == "--only"]
target = {{"limit": 1.0, "at_most": True}}
found = [{{"name": n, "what": "x", "unit": "", "median": {value}, "target": target}} for n in names]
{also}
print(json.dumps(found))
"""


class Repository:
    """A repository whose commits build in an instant, and whose benchmarks say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times_built = folder.parent / "built"
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *words]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def commit(
        self,
        *,
        value: float = 1.0,
        names: Sequence[str] = ("merge_bandwidth",),
        makefile: str = SETUP,
        pins: str = "a==1\n",
        also: str = "",
    ) -> str:
        bench = self.folder / "grapevine_lab" / "bench"
        bench.mkdir(parents=True, exist_ok=True)
        for path, text in {
            bench.parent / "__init__.py": "",
            bench / "__init__.py": "",
            bench / "suite.py": SUITE.format(names=tuple(names)),
            bench / "__main__.py": MAIN.format(value=value, also=also),
            self.folder / "Makefile": makefile.replace("{built}", str(self.times_built)),
            self.folder / "pyproject.toml": "[project]\n",
            self.folder / "constraints.txt": pins,
        }.items():
            path.write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "One")
        return self.git("rev-parse", "HEAD")

    def num_built(self) -> int:
        return len(self.times_built.read_text(encoding="utf-8").splitlines()) if self.times_built.exists() else 0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left_in(root: Path) -> set[str]:
    """What kinds of things there are in the folder of environments."""
    return {path.suffix if path.is_file() else "folder" for path in root.iterdir()}


# --- builds ---------------------------------------------------------------------------------------


def test_commits_with_the_same_pins_share_an_environment_and_have_each_its_own_files(
    repository: Repository, root: Path, tmp_path: Path
) -> None:
    commits = [repository.commit(value=value) for value in (1.0, 2.0)]
    for commit, value in zip(commits, ("1.0", "2.0"), strict=True):
        with built(repository.folder, commit, root, print, like=repository.folder) as build:
            assert build.commit == commit[:12]
            assert value in (build.source / "grapevine_lab" / "bench" / "__main__.py").read_text(encoding="utf-8")
    assert repository.num_built() == 1
    other = repository.commit(pins="a==2\n")
    with built(repository.folder, other, root, print, like=repository.folder):
        assert repository.num_built() == 2


def test_files_that_a_commit_lacks_are_gone_when_it_is_laid_out(repository: Repository, root: Path) -> None:
    before = repository.commit()
    (repository.folder / "more.py").touch()
    for commit, there in ((repository.commit(value=2.0), True), (before, False)):
        with built(repository.folder, commit, root, print, like=repository.folder) as build:
            assert (build.source / "more.py").exists() == there


def test_the_repository_does_not_notice(repository: Repository, root: Path) -> None:
    before = repository.commit()
    repository.commit(value=2.0)
    (repository.folder / "Makefile").write_text("changed", encoding="utf-8")
    state = [repository.git(*words) for words in (("status", "--porcelain"), ("worktree", "list"), ("show-ref",))]
    with built(repository.folder, before, root, print, like=repository.folder):
        pass
    assert state == [
        repository.git(*words) for words in (("status", "--porcelain"), ("worktree", "list"), ("show-ref",))
    ]


def test_a_base_that_does_not_build_shows_the_end_of_its_log_and_leaves_only_that(
    repository: Repository, root: Path
) -> None:
    commit = repository.commit(makefile='setup:\n\tmkdir -p "$(VENV)/bin"\n\techo no wheel fits; exit 3\n')
    with (
        pytest.raises(GrapevineError, match=f"{commit[:12]} does not build") as error,
        built(repository.folder, commit, root, print, like=repository.folder),
    ):
        pytest.fail("it has built")
    (log,) = root.glob("*.log")
    assert str(log) in str(error.value)
    assert "no wheel fits" in str(error.value)
    assert left_in(root) == {".log", ".lock"}


@pytest.mark.parametrize(("makefile", "why"), [("setup:\n\ttrue\n", "no environment where VENV says"), ("", "ended")])
def test_a_base_that_makes_no_environment_does_not_build(
    repository: Repository, root: Path, makefile: str, why: str
) -> None:
    commit = repository.commit(makefile=makefile)
    with (
        pytest.raises(GrapevineError, match=why),
        built(repository.folder, commit, root, print, like=repository.folder),
    ):
        pytest.fail("it has built")


def test_an_environment_that_was_left_half_made_is_made_anew(repository: Repository, root: Path) -> None:
    commit = repository.commit()
    with built(repository.folder, commit, root, print, like=repository.folder) as build:
        folder = build.source.parent
    (folder / "installed").unlink()  # as after a power cut
    with built(repository.folder, commit, root, print, like=repository.folder) as build:
        assert build.python.exists()
    assert repository.num_built() == 2


def test_an_environment_is_used_by_one_comparison_at_a_time(repository: Repository, root: Path) -> None:
    commit = repository.commit()
    with built(repository.folder, commit, root, print, like=repository.folder) as build:
        with (
            pytest.raises(GrapevineError, match="another comparison"),
            built(repository.folder, commit, root, print, like=repository.folder),
        ):
            pytest.fail("both have it")
        assert build.source.exists()


def test_too_little_room_is_said_before_anything_is_installed(
    repository: Repository, root: Path, tmp_path: Path
) -> None:
    commit = repository.commit()
    like = tmp_path / "like"
    like.mkdir()
    with (like / "sparse").open("wb") as large:
        large.truncate(10**13)
    with (
        pytest.raises(GrapevineError, match=r"takes about 10000\.0 GB.*are free.*XDG_CACHE_HOME"),
        built(repository.folder, commit, root, print, like=like),
    ):
        pytest.fail("it has built")
    assert repository.num_built() == 0
    assert left_in(root) == {".lock"}


def test_a_base_that_is_no_commit_is_named_with_what_may_be_meant(repository: Repository) -> None:
    commit = repository.commit()
    assert full_commit(repository.folder, "main") == full_commit(repository.folder, commit[:7]) == commit
    with pytest.raises(ConfigError, match=r"'mian' is no commit here; did you mean main\?.*git log"):
        full_commit(repository.folder, "mian")
    with pytest.raises(ConfigError, match="'--all' is no commit here"):
        full_commit(repository.folder, "--all")


def test_what_is_no_checkout_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no Git repository"):
        full_commit(tmp_path, "main")
    assert described(tmp_path) == "unknown"


def test_a_checkout_with_changed_code_says_so(repository: Repository) -> None:
    commit = repository.commit()
    (repository.folder / "notes.txt").touch()
    assert described(repository.folder) == commit[:12]
    (repository.folder / "new.py").touch()
    assert described(repository.folder) == f"{commit[:12]}-dirty"


def test_a_build_that_is_interrupted_ends_its_processes_and_leaves_nothing_half_made(
    repository: Repository, root: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    commit = repository.commit(makefile=f"setup:\n\tmkdir -p $(VENV)\n\techo $$$$ > {started}; sleep 100; true\n")
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom grapevine_lab.bench_compare.builds import built\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        f"with built(Path({str(repository.folder)!r}), {commit!r}, Path({str(root)!r}), print, "
        f"like=Path({str(repository.folder)!r})):\n    pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        deadline_s = time.monotonic() + 60
        while not (started.exists() and started.read_text(encoding="utf-8").strip()):
            assert time.monotonic() < deadline_s, "it has not begun"
            time.sleep(0.02)
        shell = psutil.Process(int(started.read_text(encoding="utf-8")))
        family = [shell, *shell.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert left_in(root) == {".log", ".lock"}


# --- turns ----------------------------------------------------------------------------------------


def reading(value: float, what: str = "x") -> Reading:
    return Reading(name="a", what=what, unit="s", better="lower", value=value)


def row(base: list[float], now: list[float], better: str = "lower") -> Row:
    return Row(name="a", what="x", unit="s", better=better, values={"base": base, "now": now})  # type: ignore[arg-type]


def test_each_build_is_first_in_every_other_turn_and_the_warm_up_does_not_count() -> None:
    asked: list[Side] = []

    def take(side: Side) -> list[Reading]:
        asked.append(side)
        return [reading(float(len(asked)))]

    (found,) = in_turns(take, 3, warm_up=True)
    assert isinstance(found, Row)
    assert asked == ["now", "base", "base", "now", "now", "base", "base", "now"]
    assert found.values == {"base": [3.0, 6.0, 7.0], "now": [4.0, 5.0, 8.0]}
    assert found.ratios == [4 / 3, 5 / 6, 8 / 7]


def test_a_figure_that_only_one_build_has_is_shown_without_a_ratio() -> None:
    found = in_turns(lambda side: [reading(1.0), reading(2.0, "new")] if side == "now" else [reading(1.0)], 5)
    assert [cells(each)[1:6] for each in found] == [
        ("x", "1.00 s", "1.00 s", "1.00", "1.00 … 1.00"),
        ("new", "–", "2.00 s", "–", "–"),
    ]


def test_a_base_that_has_nothing_gives_no_ratio() -> None:
    assert row([0.0, 1.0], [1.0, 1.0]).ratios == []


@pytest.mark.parametrize(
    ("now", "better", "seen"),
    [
        ([0.9] * 5, "lower", "better"),
        ([1.1] * 5, "lower", "worse"),
        ([0.9] * 5, "higher", "worse"),
        ([1.1] * 5, "higher", "better"),
        ([1.1] * 5, "", ""),
        ([0.9] * 4, "lower", ""),
        ([0.9] * 4 + [1.0], "lower", ""),
    ],
)
def test_something_is_seen_where_enough_values_of_one_build_are_all_beyond_those_of_the_other(
    now: list[float], better: str, seen: str
) -> None:
    assert row([1.0] * len(now), now, better).seen == seen


def test_turns_that_agree_while_the_machine_changes_are_no_difference_seen() -> None:
    drifting = row([1.0, 2.0, 3.0, 4.0, 5.0], [0.9, 1.9, 2.9, 3.9, 4.9])
    assert max(drifting.ratios) < 1
    assert drifting.seen == ""


def test_a_build_that_gives_no_figure_ends_the_turns_with_its_reason() -> None:
    skipped = Skipped(name="a", reason="base: no mosquitto")
    assert in_turns(lambda side: [skipped] if side == "base" else [reading(1.0)], 5) == [skipped]


# --- both builds ----------------------------------------------------------------------------------


def builds_of(repository: Repository, root: Path, base: str) -> dict[Side, Build]:
    with built(repository.folder, base, root, print, like=repository.folder) as build:
        here = Build(commit="now", source=repository.folder, python=build.python)
        return {"base": build, "now": here}


def test_each_build_runs_its_own_benchmarks_and_one_that_the_base_lacks_is_named(
    repository: Repository, root: Path
) -> None:
    base = repository.commit(value=2.0)
    repository.commit(value=1.0, names=("merge_bandwidth", "judging"))
    found = compare(builds_of(repository, root, base), ["merge_bandwidth", "judging"], [], 5, print)
    lacking = [each for each in found if isinstance(each, Skipped)]
    assert [(each.name, each.reason, each.failed) for each in lacking] == [
        ("judging", "the base has no such benchmark", False)
    ]
    (measured,) = (each for each in found if isinstance(each, Row))
    assert (measured.ratios, measured.better, measured.seen) == ([0.5] * 5, "lower", "better")
    assert {"name": "merge_bandwidth", "base": [2.0] * 5, "now": [1.0] * 5}.items() <= as_json([measured])[0].items()


@pytest.mark.parametrize(
    ("also", "why"),
    [
        ("sys.exit('[/red] gone')", r"base \(\w{12}\): its benchmark ended with 1 and no figures: \[/red\] gone"),
        ("found = {'a': 1}", "no figures"),
        ("found = [{'name': n, 'failed': 'no task'} for n in names]", "base: no task"),
    ],
)
def test_a_benchmark_that_fails_in_one_build_is_told_with_its_side_and_reason(
    repository: Repository, root: Path, also: str, why: str
) -> None:
    base = repository.commit(also=also)
    repository.commit()
    found = compare(builds_of(repository, root, base), ["merge_bandwidth"], [], 5, print)
    (failed,) = found
    assert isinstance(failed, Skipped)
    assert failed.failed
    assert re.search(why, failed.reason)
    stream = io.StringIO()
    print_table(found, Console(file=stream))
    assert failed.reason in stream.getvalue()


def test_a_command_is_measured_in_both_environments_each_run_with_an_empty_folder(
    repository: Repository, root: Path
) -> None:
    builds = builds_of(repository, root, repository.commit())
    code = "import os, sys; os.mkdir(sys.argv[1] + '/mine'); held = bytearray(150_000_000); print('[/red]')"
    found = compare(builds, [], [f'python -c "{code}" {{folder}}'], 2, print)
    rows = [each for each in found if isinstance(each, Row)]
    assert [(each.what, each.better, len(each.ratios)) for each in rows] == [
        ("wall time", "lower", 2),
        ("CPU time", "lower", 2),
        ("peak memory", "lower", 2),
    ]
    assert all(value > 140 for each in rows[2:] for values in each.values.values() for value in values)


def test_a_command_that_fails_is_told_with_its_exit_code_and_what_it_said(repository: Repository, root: Path) -> None:
    builds = builds_of(repository, root, repository.commit())
    (failed,) = compare(
        builds, [], ["""python -c "import sys; print('no such file', file=sys.stderr); exit(3)" """], 2, print
    )
    assert isinstance(failed, Skipped)
    assert failed.failed
    assert "ended with 3: no such file" in failed.reason


@pytest.mark.parametrize(
    ("command", "why"),
    [("no-such-program --help", "'no-such-program' is neither in"), ("", "is empty"), ("echo 'a", "close every quote")],
)
def test_a_command_that_cannot_be_run_is_said_before_anything_is(
    repository: Repository, root: Path, command: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        words_of(command, builds_of(repository, root, repository.commit()))
