"""What waits for a trainer that is busy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grapevine_agent.core import effects as fx
from grapevine_agent.service.trainers import _Running


def test_a_newer_evaluation_takes_the_place_of_its_like_and_the_best_model_is_still_measured() -> None:
    running, nothing = _Running(), np.empty(0, np.float32)
    newest = [
        fx.Evaluate(task="t", round=round_, parameters=nothing, buffers=nothing, age=0, steps=0, version=0)
        for round_ in range(3)
    ]
    best = replace(newest[0], which="best")
    of_ada, of_ben = (replace(newest[0], which="shadow", sender=sender) for sender in ("ada", "ben"))
    for asked in (newest[0], best, of_ada, newest[1], of_ben, newest[2]):
        running.ask(asked, lambda _: None)
    assert [asked for asked, _ in running.asked] == [best, of_ada, of_ben, newest[2]]
