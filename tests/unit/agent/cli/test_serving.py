"""What `grapevine status` says of a task that a server aggregates."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tests.unit.agent.service.shown import SERVED

from grapevine_agent.cli.serving import served_line

assert SERVED.served is not None
FIGURES = SERVED.served


def line(**changes: Any) -> str:
    return served_line({"served": asdict(replace(FIGURES, **changes))})


def test_a_server_says_what_it_made_of_whom_what_it_refused_and_what_it_holds() -> None:
    assert line() == (
        "serving, model 12 of 5 members in 2 clusters, published 4 s ago; 60 updates folded in, "
        "3 refused (2 non-finite, 1 wrong-shape); holds 2.1 MB"
    )


def test_a_server_that_has_heard_nobody_says_so() -> None:
    nobody = {"model_version": 0, "num_members": 0, "num_clusters": 0, "num_folded": 0, "refused": {}}
    assert line(**nobody, held_bytes=4_100, since_published_s=None) == (
        "serving, model 0, none published since the start; 0 updates folded in, none refused; holds 4.1 kB"
    )


def test_whose_updates_a_server_does_not_listen_to_is_named_with_the_reason() -> None:
    held = [{"peer": "fnuvdgp4pigw3wrnjztv", "rounds": 1, "why": "an update of it is far away"}]
    assert served_line({"served": asdict(FIGURES), "quarantined": held}).endswith(
        "; holds 2.1 MB; not listened to: fnuvdgp4pigw3wrnjztv for 1 round (an update of it is far away)"
    )


def test_only_the_reasons_that_are_most_frequent_are_named() -> None:
    reasons = {"old-update": 1, "non-finite": 2_000, "wrong-shape": 3, "far-away": 9, "over-quota": 5, "encoding": 1}
    assert (
        "; 60 updates folded in, 2,019 refused (2,000 non-finite, 9 far-away, 5 over-quota, 3 wrong-shape, 2 oth"
        in (line(refused=reasons))
    )
