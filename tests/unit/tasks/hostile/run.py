"""Tries every attack in a process that may use little: `python -m tests.unit.tasks.hostile.run`.

The kernel ends it when it has computed for `CPU_S`, and refuses it memory beyond `ADDRESS_SPACE`: a bomb
that goes off is a failed test and not a machine that stands still. It prints what happened, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.unit.tasks.hostile import CORPUS
from tests.unit.tasks.hostile.mutations import cases

from grapevine_proto.errors import TaskError, WireError

CPU_S = 90
ADDRESS_SPACE = 3 * 2**30  # mapped, not filled: numpy alone maps half a gigabyte


def main() -> None:
    """Print the outcomes of the corpus, those of the mutations, and the most memory that was ever taken."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    before = _peak()
    attacks = {}
    for attack_id, attack in CORPUS.items():
        with tempfile.TemporaryDirectory() as name:
            attacks[attack_id] = _outcome(partial(attack.attempt, Path(name)))
    mutations: dict[str, Any] = {"refused": 0, "taken": 0, "crashed": [], "longest_s": 0.0}
    with tempfile.TemporaryDirectory() as name:
        for case, attempt in cases(Path(name)):
            found = _outcome(attempt)
            mutations["longest_s"] = max(mutations["longest_s"], found["cpu_s"])
            if found["outcome"] == "crashed":
                mutations["crashed"].append(f"{case}: {found['message']}")
            else:
                mutations[found["outcome"]] += 1
    grown = _peak() - before
    sys.stdout.write(json.dumps({"attacks": attacks, "mutations": mutations, "grown_bytes": grown}))


def _outcome(attempt: Callable[[], object]) -> dict[str, Any]:
    started_s = time.process_time()
    try:
        attempt()
        outcome, message = "taken", ""
    except (WireError, TaskError) as error:
        outcome, message = "refused", str(error)
    except BaseException:
        outcome, message = "crashed", traceback.format_exc()
    return {"outcome": outcome, "message": message, "cpu_s": time.process_time() - started_s}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
