"""What the guard takes and what it refuses, with crowds that are made here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from grapevine_agent.core.learning.guard.crowd import MOST, SAMPLE, Crowd
from grapevine_agent.core.learning.guard.guard import FAR, Guard
from grapevine_agent.core.learning.guard.quarantine import FIRST_ROUNDS, MOST_ROUNDS, STRIKES
from grapevine_proto.errors import WireError

SIZE = 2_000
Model = NDArray[np.floating]
HONEST = [f"honest {number}" for number in range(8)]


class Swarm:
    """Honest members that all go the same way, a step a round, each a little apart from the others."""

    def __init__(self, guard: Guard, seed: int = 5) -> None:
        self.guard = guard
        self.rng = np.random.default_rng(seed)
        self.start = self.rng.standard_normal(SIZE).astype(np.float32)
        self.way = self.rng.standard_normal(SIZE).astype(np.float32) / 10
        self.round = 0

    def model(self) -> Model:
        """What an honest member would send now."""
        apart = self.rng.standard_normal(SIZE).astype(np.float32) / 20
        return self.start + self.round * self.way + apart

    def judge(self, sender: str, model: Model) -> float:
        own = (self.start + self.round * self.way).astype(np.float32)
        self.guard.check(sender, self.round)
        return self.guard.judge(sender, model.astype(np.float32), own, self.round)

    def go_on(self, num_rounds: int) -> None:
        """Everybody honest sends each round, and is taken."""
        for _ in range(num_rounds):
            self.round += 1
            for sender in HONEST:
                assert self.judge(sender, self.model()) > 0

    def refusal(self, sender: str, model: Model) -> str:
        with pytest.raises(WireError) as caught:
            self.judge(sender, model)
        return caught.value.reason


@pytest.fixture
def swarm() -> Swarm:
    return Swarm(Guard(size=SIZE, rng=np.random.default_rng(3)))


ATTACKS: dict[str, Callable[[Model, Swarm], Model]] = {
    "sign flip": lambda model, _: -model,
    "scaled": lambda model, _: 100 * model,
    "random": lambda model, swarm: swarm.rng.standard_normal(model.size).astype(np.float32),
    "the first model again": lambda _, swarm: swarm.start,
    "unlearned": lambda model, swarm: model - 20 * swarm.way,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_nobody_honest_would_send_is_refused(swarm: Swarm, attack: str) -> None:
    swarm.go_on(12)
    assert swarm.refusal("eve", ATTACKS[attack](swarm.model(), swarm)) in ("far-away", "against-the-crowd")


def test_honest_members_are_all_taken_whole(swarm: Swarm) -> None:
    swarm.go_on(40)
    assert {swarm.judge(sender, swarm.model()) for sender in HONEST} == {1.0}


def test_a_newcomer_of_the_crowd_is_taken_at_once(swarm: Swarm) -> None:
    swarm.go_on(12)
    assert swarm.judge("new", swarm.model()) == 1.0


def test_what_is_rather_far_has_a_smaller_share(swarm: Swarm) -> None:
    swarm.go_on(12)
    apart = swarm.rng.standard_normal(SIZE).astype(np.float32) / 20
    share = swarm.judge("far", swarm.model() + 4 * apart)
    assert 0.5 < share < 1.0


def test_in_the_first_rounds_nobody_can_be_further_than_training_leads(swarm: Swarm) -> None:
    swarm.guard.trained(swarm.start, (swarm.start + swarm.way).astype(np.float32), 10)
    swarm.round = 1
    own = (swarm.start + swarm.way).astype(np.float32)
    for model in (-own, swarm.rng.standard_normal(SIZE).astype(np.float32)):
        with pytest.raises(WireError, match="out-of-reach"):
            swarm.guard.judge("eve", model, own, 1, steps=20)
    assert swarm.guard.judge("ada", (swarm.start + 2 * swarm.way).astype(np.float32), own, 1, steps=30) == 1.0


def test_who_comes_late_can_be_told_by_the_first_whom_it_meets(swarm: Swarm) -> None:
    swarm.guard.trained(swarm.start, (swarm.start + swarm.way).astype(np.float32), 10)
    old = (swarm.start + 80 * swarm.way).astype(np.float32)
    assert swarm.guard.judge("ada", old, swarm.start, 1, steps=810) == 1.0


def test_who_steps_shortly_hears_those_who_have_gone_far(swarm: Swarm) -> None:
    """Or it would stay alone for ever: most of those whom it hears are out of its reach."""
    swarm.guard.trained(swarm.start, (swarm.start + swarm.way / 1000).astype(np.float32), 10)
    for _ in range(3):
        swarm.round += 1
        taken = []
        for sender in HONEST:
            with contextlib.suppress(WireError):
                taken.append(swarm.guard.judge(sender, swarm.model().astype(np.float32), swarm.start, 1, steps=20))
    assert len(taken) == len(HONEST)


def test_a_few_who_are_out_of_reach_stay_there(swarm: Swarm) -> None:
    swarm.guard.trained(swarm.start, (swarm.start + swarm.way).astype(np.float32), 10)
    for round_ in range(1, 12):
        for number in range(4):
            with pytest.raises(WireError, match="out-of-reach"):
                swarm.guard.judge(f"eve {number}", -swarm.start, swarm.start, round_, steps=20)


@pytest.mark.parametrize("agree", [1e-3, 1e-5, 0.0])
def test_a_crowd_that_has_come_to_agree_takes_the_model_of_who_trains_still(swarm: Swarm, agree: float) -> None:
    swarm.go_on(12)
    end = swarm.model()
    for _ in range(12):
        swarm.round += 1
        for sender in HONEST:
            around = end + agree * swarm.rng.standard_normal(SIZE)
            with contextlib.suppress(WireError):  # unchanged
                swarm.guard.judge(sender, around.astype(np.float32), end.astype(np.float32), swarm.round)
    apart = swarm.rng.standard_normal(SIZE).astype(np.float32) / 20
    for sender in ("new", HONEST[0]):
        model = (end + apart).astype(np.float32)
        assert swarm.guard.judge(sender, model, end.astype(np.float32), swarm.round) > 0
    assert swarm.refusal("eve", -end) == "far-away"


def test_a_crowd_that_agreed_before_we_came_takes_it_too(swarm: Swarm) -> None:
    end = swarm.model()
    for number, sender in enumerate(HONEST):
        around = end + 1e-5 * number
        swarm.guard.judge(sender, around.astype(np.float32), end.astype(np.float32), 1)
    apart = swarm.rng.standard_normal(SIZE).astype(np.float32) / 20
    model = (end + apart).astype(np.float32)
    assert swarm.guard.judge("new", model, end.astype(np.float32), 2) == 1.0


def test_four_of_twelve_who_collude_do_not_move_the_centre(swarm: Swarm) -> None:
    swarm.go_on(12)
    for _ in range(6):
        swarm.round += 1
        for sender in HONEST:
            swarm.judge(sender, swarm.model())
        for number in range(4):
            with pytest.raises(WireError):
                swarm.judge(f"eve {number}", -swarm.model())
    assert swarm.judge("honest 0", swarm.model()) == 1.0


def test_a_model_that_was_merged_once_is_not_merged_again(swarm: Swarm) -> None:
    swarm.go_on(2)
    model = swarm.model()
    assert swarm.judge("eve", model) == 1.0
    assert swarm.refusal("eve", model) == "unchanged"


def test_two_cannot_say_who_lies(swarm: Swarm) -> None:
    assert swarm.judge("eve", -swarm.model()) == 1.0


def test_who_is_late_by_a_few_rounds_is_taken(swarm: Swarm) -> None:
    """A slow device, or a slow line: it is behind by what the crowd moves in that time."""
    swarm.way /= 20
    swarm.go_on(12)
    assert swarm.judge("slow", swarm.model() - 2 * swarm.way) > 0


def test_who_always_holds_the_crowd_back_is_found_by_its_score(swarm: Swarm) -> None:
    """Each of its updates could be an honest one's: it stands where the crowd was two rounds ago."""
    swarm.way /= 10
    reasons = []
    for _ in range(40):
        swarm.go_on(1)
        try:
            swarm.judge("eve", swarm.model() - 2 * swarm.way)
        except WireError as error:
            reasons.append(error.reason)
    assert "holds-back" in reasons


def test_who_is_refused_again_and_again_is_not_listened_to(swarm: Swarm) -> None:
    swarm.go_on(12)
    for _ in range(STRIKES):
        assert swarm.refusal("eve", -swarm.model()) != "quarantined"
    assert swarm.refusal("eve", swarm.model()) == "quarantined"
    (turned,) = swarm.guard.take_turned()
    assert (turned.sender, turned.rounds) == ("eve", FIRST_ROUNDS)
    assert swarm.guard.take_turned() == []
    ((rounds, why),) = swarm.guard.quarantine.held(swarm.round).values()
    assert rounds == FIRST_ROUNDS
    assert "as far from the crowd as usual" in why


def test_a_quarantine_ends_and_who_is_honest_then_is_taken(swarm: Swarm) -> None:
    swarm.go_on(12)
    for _ in range(STRIKES):
        swarm.refusal("eve", -swarm.model())
    swarm.go_on(FIRST_ROUNDS)
    assert swarm.judge("eve", swarm.model()) == 1.0
    assert swarm.guard.quarantine.held(swarm.round) == {}


def test_who_goes_on_is_turned_away_for_longer_and_longer_up_to_a_bound(swarm: Swarm) -> None:
    swarm.go_on(12)
    lengths = []
    for _ in range(600):
        swarm.go_on(1)
        with contextlib.suppress(WireError):
            swarm.judge("eve", -swarm.model())
        lengths += [turned.rounds for turned in swarm.guard.take_turned()]
    assert lengths[:4] == [10, 20, 40, 80]
    assert set(lengths[4:]) == {MOST_ROUNDS}


def test_numbers_that_are_none_are_held_against_their_sender(swarm: Swarm) -> None:
    swarm.go_on(12)
    for _ in range(STRIKES):
        with pytest.raises(WireError, match="NaN"), swarm.guard.finding_faults("eve", swarm.round):
            raise WireError("non-finite", "full holds NaN or infinity")
    assert swarm.refusal("eve", swarm.model()) == "quarantined"


def test_a_message_that_came_twice_is_held_against_nobody(swarm: Swarm) -> None:
    for _ in range(3 * STRIKES):
        with pytest.raises(WireError), swarm.guard.finding_faults("ada", swarm.round):
            raise WireError("old-news", "version 3 again")
    swarm.guard.check("ada", swarm.round)


def test_where_members_keep_models_of_their_own_groups_are_no_outliers() -> None:
    swarm = Swarm(Guard(size=SIZE, rng=np.random.default_rng(3), personal=True))
    swarm.go_on(12)
    other = swarm.rng.standard_normal(SIZE).astype(np.float32) / 20
    assert swarm.judge("of another group", swarm.model() + (FAR + 3) * other) == 1.0
    assert swarm.refusal("eve", 100 * swarm.model()) == "far-away"


def test_a_guard_that_is_off_takes_everything() -> None:
    swarm = Swarm(Guard(size=SIZE, rng=np.random.default_rng(3), is_on=False))
    swarm.go_on(12)
    assert swarm.judge("eve", -swarm.model()) == 1.0


@pytest.mark.parametrize("size", [0, 1, 2, 11])
def test_models_of_a_few_numbers_can_be_judged(size: int) -> None:
    guard = Guard(size=size, rng=np.random.default_rng(0))
    model = np.ones(size, np.float32)
    for round_ in range(12):
        for sender in HONEST:
            assert guard.judge(sender, model, model, round_) == 1.0


@pytest.mark.parametrize("when", ["before", "after"])
def test_numbers_whose_squares_overflow_are_far_away_like_any_others(swarm: Swarm, when: str) -> None:
    huge = np.full(SIZE, 1e30, np.float32)
    if when == "before":
        swarm.judge("eve", huge)
    swarm.go_on(12)
    assert swarm.refusal("mallory", huge) == "far-away"
    swarm.guard.trained(swarm.start, (swarm.start + swarm.way).astype(np.float32), 10)
    with pytest.raises(WireError, match="out-of-reach"):
        swarm.guard.judge("mallory", huge, swarm.start, swarm.round, steps=20)


def test_what_is_kept_of_senders_is_bounded() -> None:
    crowd = Crowd(size=100_000, rng=np.random.default_rng(0))
    model = np.zeros(100_000, np.float32)
    for number in range(3 * MOST):
        sample = crowd.sample(model)
        crowd.put(str(number), sample)
    assert sample.size == SAMPLE
    assert sample.base is None  # or the whole model would be kept with it
    assert len(crowd) == MOST


def test_the_places_are_others_for_every_agent() -> None:
    model = np.arange(100_000, dtype=np.float32)
    one, other = (Crowd(size=model.size, rng=np.random.default_rng(seed)).sample(model) for seed in range(2))
    assert np.intersect1d(one, other).size < SAMPLE / 10


def test_members_that_agree_between_rounds_are_held_to_a_round_of_training(swarm: Swarm) -> None:
    """Members that answer each other at once are nearly the same, until one has trained."""
    for _ in range(6):
        swarm.round += 1
        own = (swarm.start + swarm.round * swarm.way).astype(np.float32)
        swarm.guard.trained((own - swarm.way).astype(np.float32), own, num_steps=5)
        for sender in HONEST:
            swarm.judge(sender, own + swarm.rng.standard_normal(SIZE) / 1000)
    assert swarm.judge("who has trained", swarm.start + (swarm.round + 1) * swarm.way) == 1.0
    assert swarm.refusal("eve", swarm.start + (swarm.round + 4) * swarm.way) == "far-away"


def test_of_five_models_nobody_has_less_of_a_share_for_what_would_be_near_in_a_small_crowd(swarm: Swarm) -> None:
    for _ in range(6):
        swarm.round += 1
        for sender in HONEST[:4]:
            swarm.judge(sender, swarm.model())
    middle = swarm.start + swarm.round * swarm.way
    assert swarm.judge(HONEST[0], middle + 6 * (swarm.model() - middle)) == 1.0


BUFFERS = 40


def _with_buffers(swarm: Swarm, buffers: Mapping[str, Model], num_rounds: int) -> list[str]:
    """Everybody sends; of whom the buffers were refused."""
    refused = []
    for _ in range(num_rounds):
        swarm.round += 1
        own = (swarm.start + swarm.round * swarm.way).astype(np.float32)
        for sender, vector in buffers.items():
            try:
                swarm.guard.judge(
                    sender, swarm.model().astype(np.float32), own, swarm.round, buffers=vector.astype(np.float32)
                )
            except WireError as error:
                refused += [sender] if "buffers" in str(error) else []
    return refused


def test_buffers_that_nobody_else_has_are_refused_and_those_of_honest_members_are_not() -> None:
    swarm = Swarm(Guard(size=SIZE, num_buffers=BUFFERS, rng=np.random.default_rng(3)))
    honest = {sender: 1 + swarm.rng.random(BUFFERS) for sender in HONEST}
    assert _with_buffers(swarm, {**honest, "eve": np.full(BUFFERS, 9e29)}, 12).count("eve") >= 6
    assert swarm.guard.quarantine.held(swarm.round).keys() == {"eve"}
    assert _with_buffers(swarm, honest, 10) == []


def test_buffers_that_all_change_at_once_are_refused_until_they_are_most() -> None:
    swarm = Swarm(Guard(size=SIZE, num_buffers=BUFFERS, rng=np.random.default_rng(3)))
    honest = {sender: 1 + swarm.rng.random(BUFFERS) for sender in HONEST}
    _with_buffers(swarm, honest, 5)
    moved = {sender: 50 + vector for sender, vector in honest.items()}
    assert len(_with_buffers(swarm, moved, 10)) <= 2 * len(HONEST)
    assert _with_buffers(swarm, moved, 5) == []


def test_buffers_that_are_the_same_everywhere_are_taken() -> None:
    swarm = Swarm(Guard(size=SIZE, num_buffers=BUFFERS, rng=np.random.default_rng(3)))
    assert _with_buffers(swarm, dict.fromkeys(HONEST, np.ones(BUFFERS)), 10) == []
    assert _with_buffers(swarm, dict.fromkeys(HONEST, np.zeros(BUFFERS)), 10) == []


def test_a_crowd_that_grows_does_not_move() -> None:
    """The middle of a few and the middle of many differ by chance; what is between them leads nowhere."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        crowd = Crowd(size=SIZE, rng=np.random.default_rng(seed))
        for number in range(40):
            crowd.put(f"member {number}", crowd.sample(rng.standard_normal(SIZE).astype(np.float32)))
            view = crowd.look(None, moved=number in (4, 9, 39))
            assert view is not None
            assert view.movement is None
