"""One turn of one build: its own benchmarks, or a command in its environment."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from grapevine_lab.bench.figures import Skipped
from grapevine_lab.bench.spent import Spent, starter
from grapevine_lab.bench_compare.builds import Build, tail_of
from grapevine_lab.bench_compare.children import environment_of, run_to_the_end
from grapevine_lab.bench_compare.turns import Better, Reading, Side
from grapevine_proto.errors import ConfigError, GrapevineError

Builds: TypeAlias = Mapping[Side, Build]

FOLDER: Final = "{folder}"  # in a command: an empty folder of each run
_NAMES: Final = "import json; from grapevine_lab.bench.suite import NAMES; print(json.dumps(NAMES))"
_LESS_IS_BETTER: Final = ("s", "ms", "µs", "MB", "kB", "% of a core", "ns/parameter", "p")
_MORE_IS_BETTER: Final = ("/s", "GB/s", "updates/s")


def known_benchmarks(build: Build) -> list[str]:
    """The names of a build's benchmarks. Raises GrapevineError where it cannot tell."""
    code, answer, said = _run(build, [str(build.python), "-c", _NAMES], build.source)
    if code != 0:
        raise GrapevineError(f"{build.commit} does not tell which benchmarks it has:\n{said}")
    names: list[str] = json.loads(answer)
    return names


def take_benchmarks(builds: Builds, names: Sequence[str], side: Side) -> list[Reading | Skipped]:
    """What the benchmarks of these names find in the build of this side, or why they find nothing."""
    build = builds[side]
    only = [word for name in names for word in ("--only", name)]
    command = [str(build.python), "-m", "grapevine_lab.bench", "--json", *only]
    code, answer, said = _run(build, command, build.source)
    try:
        return [_read(each, side) for each in json.loads(answer)]
    except (ValueError, KeyError, TypeError, AttributeError):
        why = f"{side} ({build.commit}): its benchmark ended with {code} and no figures: {said}"
        return [Skipped(name=name, reason=why, failed=True) for name in names]


def _read(found: dict[str, Any], side: Side) -> Reading | Skipped:
    for reason in ("skipped", "failed"):
        if reason in found:
            return Skipped(name=found["name"], reason=f"{side}: {found[reason]}", failed=reason == "failed")
    target, unit = found.get("target"), found.get("unit", "")
    better = ("lower" if target["at_most"] else "higher") if target else _better_of(unit)
    return Reading(name=found["name"], what=found["what"], unit=unit, better=better, value=float(found["median"]))


def _better_of(unit: str) -> Better:
    return "lower" if unit in _LESS_IS_BETTER else "higher" if unit in _MORE_IS_BETTER else ""


def words_of(command: str, builds: Builds) -> list[str]:
    """A command's words. Raises ConfigError where it cannot be split, or one of the builds has no such program."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--command {command!r}: {error}; close every quote") from None
    if not words:
        raise ConfigError("--command is empty; give what both builds are to run, as 'grapevine --help'")
    for build in builds.values():
        if shutil.which(words[0], path=environment_of(build.python)["PATH"]) is None:
            raise ConfigError(f"--command: {words[0]!r} is neither in the environment of {build.commit} nor on PATH")
    return words


def take_command(builds: Builds, command: str, words: Sequence[str], side: Side) -> list[Reading | Skipped]:
    """What a command takes in the environment of this side, run where we are; a reason where it fails."""
    build = builds[side]
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder:
        given = [word.replace(FOLDER, folder) for word in words]
        code, answer, said = _run(build, starter(given), Path.cwd())
    spent = Spent.told(answer) if code == 0 else None
    if spent is None or spent.exit_code != 0:
        ended = code if spent is None else spent.exit_code
        return [Skipped(name=command, reason=f"{side} ({build.commit}): it ended with {ended}: {said}", failed=True)]
    found = (("wall time", "s", spent.wall_s), ("CPU time", "s", spent.cpu_s), ("peak memory", "MB", spent.peak_mb))
    return [Reading(name=command, what=what, unit=unit, better="lower", value=value) for what, unit, value in found]


def _run(build: Build, command: Sequence[str], cwd: Path) -> tuple[int, str, str]:
    """Exit code, standard output, and the end of standard error."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder:
        output, log = Path(folder) / "output", Path(folder) / "log"
        with output.open("wb") as stdout, log.open("wb") as stderr:
            environment = environment_of(build.python)
            code = run_to_the_end(command, cwd=cwd, environment=environment, stdout=stdout, stderr=stderr)
        return code, output.read_text(encoding="utf-8", errors="replace"), tail_of(log)
