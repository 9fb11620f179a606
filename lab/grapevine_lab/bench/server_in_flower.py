"""`python server_in_flower.py FOLDER`: how long Flower takes to aggregate the updates in FOLDER.

It runs in an environment of Flower's own. `updates.npy` is float32 [updates, parameters]. A line with a number on
standard input: aggregate that often in each of Flower's ways; the answer is one line of JSON, the CPU time
of one aggregation in each, in seconds. `mean.npy` is what it made of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict  # type: ignore[import-not-found]  # it lives in the peer's
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters  # type: ignore[import-not-found]
from flwr.server.strategy.aggregate import aggregate, aggregate_inplace  # type: ignore[import-not-found]
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords  # type: ignore[import-not-found]

WEIGHT = "num-examples"


def ways(updates: Any) -> dict[str, Callable[[], Any]]:
    """The functions that FedAvg's versions aggregate with; the weights are 1, 2, 3 and so on."""
    weighed = list(enumerate(updates, start=1))
    records = [
        RecordDict({"arrays": ArrayRecord([update]), "metrics": MetricRecord({WEIGHT: weight})})
        for weight, update in weighed
    ]
    fitted = [
        (
            None,
            FitRes(
                status=Status(code=Code.OK, message=""),
                parameters=ndarrays_to_parameters([update]),
                num_examples=weight,
                metrics={},
            ),
        )
        for weight, update in weighed
    ]
    arrays = [([update], weight) for weight, update in weighed]
    return {
        "records": lambda: aggregate_arrayrecords(records, WEIGHT),
        "in place": lambda: aggregate_inplace(fitted),
        "arrays": lambda: aggregate(arrays),
    }


def main(folder: Path) -> None:
    """Answer until standard input ends."""
    todo = ways(list(np.load(folder / "updates.npy")))
    np.save(folder / "mean.npy", todo["arrays"]()[0])
    print("ready", flush=True)  # noqa: T201 - read by the process that started this one
    for line in sys.stdin:
        times = int(line)
        seconds = {}
        for name, work in todo.items():
            started_s = time.thread_time()
            for _ in range(times):
                work()
            seconds[name] = (time.thread_time() - started_s) / times
        print(json.dumps(seconds), flush=True)  # noqa: T201 - the same


if __name__ == "__main__":
    main(Path(sys.argv[1]))
