"""Tables of pulled models: python -m grapevine_lab.worth_pulling [--quick] [--rounds N] [--out DIR].

The data set is found through GRAPEVINE_DATA: see `grapevine_lab.simulator.datasets.weather`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from grapevine_lab.papers.report import Table, decimals, write_report
from grapevine_lab.worth_pulling.runs import Found, run

SEASONS = (0, 2_000, 4_000)  # the first hour of four months, one a seed
ROUNDS = 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all seeds and write the tables as they come."""
    parser = argparse.ArgumentParser(prog="python -m grapevine_lab.worth_pulling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one season and 40 rounds")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("worth-pulling"))
    options = parser.parse_args(arguments)
    seasons, rounds = (SEASONS[:1], 40) if options.quick else (SEASONS, options.rounds)
    found: list[Found] = []
    for holdout in ("last", "blocks"):
        for seed, first_hour in enumerate(seasons):
            found.append(run(holdout, first_hour, rounds=rounds, seed=seed))
            write_report([table_of(found, rounds)], options.out / "worth-pulling.md")


def table_of(found: Sequence[Found], rounds: int) -> Table:
    """One row a seed."""
    head = ("held out", "first hour", "nothing changes", "pulled: best", "its age", "pulled: latest", "its age")
    table = Table(f"rmse in °C, {rounds} rounds", (*head, "alone: best", "alone: last"))
    for each in found:
        table.rows.append(
            [
                each.holdout,
                str(each.first_hour),
                decimals(each.persistence),
                decimals(each.best),
                f"{each.best_age:,}",
                decimals(each.latest),
                f"{each.latest_age:,}",
                decimals(each.alone_best),
                decimals(each.alone_latest),
            ]
        )
    return table


if __name__ == "__main__":
    main()
