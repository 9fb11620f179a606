"""A task built by a process of its own, which reads what to build from its standard input.

Whoever builds a task needs PyTorch, 400 MB of it, and a run in which nobody trains needs it for nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import TaskError
from grapevine_tasks.built import BuiltTask, load_built

WRONG: Final = "wrong.txt"  # in the folder: what is wrong with the task
_TAIL_LINES: Final = 6


def build_apart(folder: Path, into: Path, changes: Mapping[str, Mapping[str, Any]]) -> BuiltTask:
    """As `build_task`, in another process. Raises TaskError as that does, or with the last lines of what it said."""
    asked = json.dumps({"folder": str(folder.absolute()), "into": str(into.absolute()), "changes": changes})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "grapevine_lab.simulator.building"],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
    )
    if (into / WRONG).exists():
        raise TaskError((into / WRONG).read_text(encoding="utf-8"))
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:]) or "it said nothing"
        raise TaskError(f"the process that builds {folder} ended with exit code {done.returncode}: {said}")
    return load_built(into)


def main() -> None:
    """Build what is asked for."""
    from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415 - imports torch

    asked = json.load(sys.stdin)
    into = Path(asked["into"])
    try:
        build_task(Path(asked["folder"]), check_merging=check_merge_plan, into=into, changes=asked["changes"])
    except TaskError as error:
        (into / WRONG).write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main()
