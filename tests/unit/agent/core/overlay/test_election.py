"""One broker where there is none: who begins, and when it ends."""

from __future__ import annotations

from grapevine_agent.core.overlay.election import CLOSE_AFTER_S, LATEST_S, Election, Sight, Standing, rank_of

ROOT = "elections"
ALONE, MET = Sight(is_met=False), Sight(is_met=True)


def election(peer: str = "ada") -> Election:
    return Election(root=ROOT, peer=peer, after_s=30.0)


def begun(one: Election, from_s: float = 0.0) -> float:
    """When it begins, alone."""
    at_s = from_s
    while one.look(ALONE, at_s) != "hosting":
        at_s += 0.5
    return at_s


def test_it_begins_once_every_broker_was_silent_for_so_long_the_highest_first() -> None:
    peers = sorted((f"p{k}" for k in range(20)), key=lambda peer: rank_of(ROOT, peer), reverse=True)
    times = [begun(election(peer)) for peer in peers]
    assert times == sorted(times)
    assert times[0] >= 30.0
    assert times[-1] <= 30.0 + LATEST_S + 0.5


def test_a_broker_that_has_us_begins_the_wait_anew() -> None:
    one = election()
    one.look(ALONE, 0.0)
    one.look(MET, 29.0)
    assert begun(one, 30.0) >= 59.0


def test_who_is_announced_is_given_its_time_once() -> None:
    one, other = election(), Sight(is_met=False, elected=frozenset(("bob",)))
    one.look(ALONE, 0.0)
    assert one.look(other, 29.0) == "waiting"
    assert one.look(other, 58.0) == "waiting"
    assert one.look(other, 63.0) == "hosting"


def test_it_closes_after_a_moment_when_another_broker_is_back_or_a_higher_one_answers() -> None:
    for sight, why in (
        (Sight(is_met=False, is_back=True), "another broker answers"),
        (Sight(is_met=True, higher="bob"), "bob hosts one of higher rank"),
    ):
        one = election()
        at_s = begun(one)
        seen: list[Standing] = [one.look(sight, at_s), one.look(ALONE, at_s + CLOSE_AFTER_S / 2)]
        assert seen == ["closing", "closing"]
        assert one.why == why
        assert one.look(ALONE, at_s + CLOSE_AFTER_S) == "waiting"
        assert begun(one, at_s + CLOSE_AFTER_S) >= at_s + CLOSE_AFTER_S + 30.0


def test_who_only_says_that_it_is_higher_ends_nothing() -> None:
    one = election()
    at_s = begun(one)
    assert one.look(Sight(is_met=False, elected=frozenset(("bob",))), at_s + 1.0) == "hosting"


def test_what_could_not_be_started_is_tried_again_later() -> None:
    one = election()
    at_s = begun(one)
    one.failed("no room", at_s)
    assert (one.standing, one.why) == ("waiting", "no room")
    assert begun(one, at_s) >= at_s + 30.0
