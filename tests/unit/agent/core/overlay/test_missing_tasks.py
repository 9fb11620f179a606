"""Tasks that peers train and a broker has lost: whoever invents some keeps nobody from asking for real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from grapevine_agent.core import effects as fx
from grapevine_agent.core.overlay.catching_up import MOST_MISSING, CatchingUp
from grapevine_proto.topics import InboxTopic

HONEST, HOURS_S = "honest", 7_200


def askings(invented: Callable[[int], Iterable[tuple[str, list[str]]]]) -> Counter[str]:
    """Whom an agent asks in two hours in which strangers say that they train this."""
    catching_up, found = CatchingUp(peer="me", rng=np.random.default_rng(1)), Counter[str]()
    catching_up.connected()
    for now_s in range(HOURS_S):
        if now_s % 10 == 0:
            catching_up.hears_of_tasks(HONEST, 1, ["real"], now_s)
        for peer, tasks in invented(now_s):
            catching_up.hears_of_tasks(peer, 1, tasks, now_s)
        for effect in catching_up.tick(0, 5, now_s)[0]:
            assert isinstance(effect, fx.Publish)
            assert isinstance(effect.topic, InboxTopic)
            found[effect.topic.receiver] += 1
    assert len(catching_up._missing) <= MOST_MISSING
    return found


@pytest.mark.parametrize(
    "invented",
    [
        lambda now_s: [("liar", [f"{now_s}-{k}" for k in range(100)])],
        lambda now_s: [(f"liar-{k}", [f"{now_s}-{k}-{n}" for n in range(100)]) for k in range(4) if now_s % 10 == 0],
        lambda now_s: [("liar", [f"{now_s // 60 + k}" for k in range(4)])],
        lambda now_s: [(f"liar-{k}", [f"{k}-{n}" for n in range(100)]) for k in range(60) if now_s % 5 == 0],
    ],
    ids=["one, always others", "four, always others", "one, a new one a minute", "sixty, always the same"],
)
def test_who_invents_tasks_keeps_nobody_from_asking(invented: Callable[[int], list[tuple[str, list[str]]]]) -> None:
    alone = askings(lambda _: [])[HONEST]
    found = askings(invented)
    assert alone > 5
    assert found[HONEST] >= 5
    assert found.total() <= HOURS_S / 60
