"""A campaign: `python -m tests.unit.tasks.fuzz.run --seconds 600 --seed 1`.

Prints what failed, and figures; exits with 1 if anything did.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter

import numpy as np
import torch
from tests.unit.tasks.fuzz.judging import Verdict, draw_program, judge

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Operator

SEEDS = 10**9  # of one campaign: the next one's begin here


def tried(operator: Operator, seed: int) -> Verdict | None:
    """What became of one draw; None when a shape rule refused it while it was drawn."""
    rng = np.random.default_rng((int(operator), seed))
    try:
        program, limits = draw_program(rng, operator)
    except TaskError:
        return None
    return judge(program, limits, seed)


def main() -> int:
    """Draw for every operator in turn until the time is over, or so many times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--draws", type=int, default=SEEDS, help="of each operator")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operators", nargs="*", default=[each.name for each in Operator])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else")
    parser.add_argument("--trace", action="store_true", help="say on stderr what is tried, should PyTorch end all this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    outcomes: Counter[str] = Counter()
    ran: Counter[str] = Counter(dict.fromkeys(options.operators, 0))
    failures: dict[str, str] = {}
    until = time.monotonic() + options.seconds
    first = options.seed * SEEDS
    for seed in range(first, first + options.draws):
        for name in options.operators:
            if options.trace:
                sys.stderr.write(f"{name} {seed}\n")
            verdict = tried(Operator[name], seed)
            outcome = "not drawn" if verdict is None else verdict.outcome
            outcomes[outcome] += 1
            ran[name] += outcome == "ran"
            if verdict is not None and outcome in ("failed", "not finite"):
                failures.setdefault(f"{name}: {verdict.reason[:60]}", f"seed {seed}: {verdict.reason[:300]}")
        if time.monotonic() > until:
            break
    if options.json:
        sys.stdout.write(json.dumps({"outcomes": outcomes, "ran": ran, "failures": failures}))
    else:
        for kind, example in failures.items():
            sys.stdout.write(f"{kind}\n    {example}\n")
        fewest = ", ".join(f"{name} {number}" for name, number in ran.most_common()[-5:])
        sys.stdout.write(f"{dict(outcomes)}; ran least often: {fewest}\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
