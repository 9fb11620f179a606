"""How a page adds up what it is told: a snapshot, and the patches after it. The reference for pages and tests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

MOST_LINES: Final = 200  # of the log
MOST_RATES: Final = 300
_WHOLE: Final = ("title", "now_ms", "source", "links", "rejected", "totals", "shown")


def apply(state: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Change a state to what it is after a patch."""
    patch = copy.deepcopy(dict(patch))  # what is appended to later must not be the patch's own
    for key in _WHOLE:
        if key in patch:
            state[key] = patch[key]
    gone = set(patch.get("gone", ()))
    for key in ("peers", "tasks", "brokers"):
        by_id = {each["id"]: each for each in state[key] if each["id"] not in gone}
        by_id.update({each["id"]: each for each in patch.get(key, ())})
        state[key] = list(by_id.values())
    for task in gone:
        state["series"].pop(task, None)
    for task in patch.get("tasks", ()):
        _series_of(state, task["id"])
    for task, series in patch.get("resampled", {}).items():
        of_task = _series_of(state, task)
        for peer, points in series.get("peers", {}).items():
            of_task["peers"].pop(peer, None)
            of_task["peers"].update({peer: points} if points else {})
        of_task.update({key: series[key] for key in ("all", "staleness") if key in series})
    for task, series in patch.get("series", {}).items():
        of_task = _series_of(state, task)
        for peer, points in series.get("peers", {}).items():
            of_task["peers"].setdefault(peer, []).extend(points)
        for key in ("all", "staleness"):
            of_task[key].extend(series.get(key, ()))
    state["log"] = [*state["log"], *patch.get("log", ())][-MOST_LINES:]
    state["rates"] = [*state["rates"], *patch.get("rates", ())][-MOST_RATES:]


def _series_of(state: dict[str, Any], task: str) -> dict[str, Any]:
    series: dict[str, Any] = state["series"].setdefault(task, {"peers": {}, "all": [], "staleness": []})
    return series
