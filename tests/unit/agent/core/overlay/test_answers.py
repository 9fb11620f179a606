"""How much askers may have us send."""

from __future__ import annotations

from contextlib import suppress

import pytest

from grapevine_agent.core.overlay.answers import (
    ANSWER_BURST_BYTES,
    ANSWER_BYTES_PER_S,
    BLOBS,
    MAX_REMEMBERED,
    MODELS,
    AnswerQuota,
)
from grapevine_proto.errors import WireError


def num_given(
    quota: AnswerQuota, askers: list[str], num_bytes: int, *, for_s: float = 0.0, member: bool = False
) -> int:
    given = 0
    for k, asker in enumerate(askers):
        with suppress(WireError):
            quota.charge(asker, "blob", num_bytes, k * for_s / len(askers), pace=BLOBS, is_member=member)
            given += 1
    return given


def test_one_asker_gets_the_same_blob_once_in_half_a_minute() -> None:
    assert num_given(AnswerQuota(), ["a"] * 100, 20_000, for_s=5.0) == 1
    assert num_given(AnswerQuota(), ["a"] * 100, 20_000, for_s=70.0) == 3
    quota = AnswerQuota()
    num_given(quota, ["a"] * 10, 20_000)
    quota.charge("a", "another blob", 20_000, 0.0, pace=BLOBS, is_member=False)


def test_two_hundred_who_join_at_once_are_served() -> None:
    assert num_given(AnswerQuota(), [f"joiner-{k}" for k in range(200)], 20_000, for_s=1.0) == 200


def test_many_invented_askers_get_no_more_than_all_together_may_have() -> None:
    askers = [f"x{k}" for k in range(10_000)]
    num_bytes = 20_000
    most = (ANSWER_BURST_BYTES + 10.0 * ANSWER_BYTES_PER_S) / num_bytes
    assert num_given(AnswerQuota(), askers, num_bytes, for_s=10.0) <= most + 1


def test_invented_askers_take_nothing_from_members() -> None:
    quota = AnswerQuota()
    num_given(quota, [f"x{k}" for k in range(10_000)], 20_000)
    quota.charge("friend", "blob", 20_000, 0.0, pace=BLOBS, is_member=True)


def test_who_is_refused_for_the_sake_of_all_has_not_used_up_its_own_share() -> None:
    quota = AnswerQuota()
    num_given(quota, [f"x{k}" for k in range(1_000)], 20_000)
    for _ in range(5):
        with pytest.raises(WireError, match="too much was asked for"):
            quota.charge("late", "blob", 20_000, 0.0, pace=BLOBS, is_member=False)
    quota.charge("late", "blob", 20_000, 10.0, pace=BLOBS, is_member=False)


def test_an_answer_that_had_no_room_on_its_way_out_is_not_counted() -> None:
    quota = AnswerQuota()
    for _ in range(5):
        quota.charge("a", "blob", 400_000, 0.0, pace=BLOBS, is_member=True)
        quota.put_back("a", "blob", 400_000, pace=BLOBS, is_member=True)
    quota.charge("a", "blob", 400_000, 0.0, pace=BLOBS, is_member=True)
    with pytest.raises(WireError, match="again"):
        quota.charge("a", "blob", 400_000, 0.0, pace=BLOBS, is_member=True)


def test_a_model_is_given_once_in_two_seconds_however_many_ask_in_between() -> None:
    quota = AnswerQuota()
    quota.charge("a", "model", 100, 0.0, pace=MODELS, is_member=True)
    for k in range(MAX_REMEMBERED // 2):
        with suppress(WireError):
            quota.charge(f"x{k}", "model", 100, 0.5, pace=MODELS, is_member=False)
    with pytest.raises(WireError, match="again"):
        quota.charge("a", "model", 100, 1.0, pace=MODELS, is_member=True)
    quota.charge("a", "model", 100, 2.0, pace=MODELS, is_member=True)


def test_what_travels_in_chunks_costs_little_and_is_given_again_to_who_was_restarted() -> None:
    quota = AnswerQuota()
    for k in range(50):
        quota.charge(f"a{k}", "blob", 50_000_000, 0.0, pace=BLOBS, is_member=True)
    quota.charge("a0", "blob", 50_000_000, 1.0, pace=BLOBS, is_member=True)
    with pytest.raises(WireError, match="over-quota"):
        quota.charge("a0", "blob", 50_000_000, 2.0, pace=BLOBS, is_member=True)
    quota.charge("a0", "blob", 50_000_000, 7.0, pace=BLOBS, is_member=True)
