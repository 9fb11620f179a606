"""Who qualifies, who comes first, and when: pure functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.core.apps.hours import in_words, is_active
from grapevine_agent.core.apps.matching import announced, of_settings, preference, why_not
from grapevine_agent.core.apps.rendezvous import chosen
from grapevine_agent.core.settings import CoreSettings, DeviceLimits
from grapevine_proto.application import Component, Container, Hours, LabelTest, Operator, Preference, Where
from grapevine_proto.messages import PeerAnnouncement

KITCHEN = announced(
    "k" * 20,
    PeerAnnouncement(
        site="lake", profile="pi-4", cores=4, memory_mb=700, labels=(("room", "kitchen"),), traits=("sensors",)
    ),
)
VIEWER = Component(name="viewer", workload=Container(image="x"), replicas=3)


def test_what_an_agent_knows_of_itself_is_what_it_announces() -> None:
    settings = CoreSettings(
        peer="k" * 20,
        site="lake",
        limits=DeviceLimits(profile="pi-4", cores=4, memory_mb=700),
        labels=(("room", "kitchen"),),
        traits=("sensors",),
    )
    assert of_settings(settings) == KITCHEN


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (Where(), []),
        (Where(traits=("sensors",), cores=4, memory_mb=700), []),
        (Where(traits=("accelerator",)), ["it has not the trait accelerator"]),
        (Where(data_kinds=("climate-2",)), ["it has no data of kind climate-2"]),
        (Where(cores=8, memory_mb=800), ["needs 8 cores, it has 4", "needs 800 MB, it has 700"]),
        (Where(apart_by="floor"), ["replicas are apart by floor, and it has no such label"]),
    ],
)
def test_what_is_lacking_is_said(where: Where, why: list[str]) -> None:
    assert why_not(where, KITCHEN) == why


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("room", "In", ("kitchen", "hall"), True),
        ("room", "In", ("hall",), False),
        ("room", "NotIn", ("hall",), True),
        ("room", "NotIn", ("kitchen",), False),
        ("floor", "NotIn", ("1",), True),
        ("room", "Exists", (), True),
        ("floor", "Exists", (), False),
        ("floor", "DoesNotExist", (), True),
        ("site", "In", ("lake",), True),
        ("peer", "In", ("k" * 20,), True),
    ],
)
def test_labels(key: str, operator: Operator, values: tuple[str, ...], holds: bool) -> None:
    test = LabelTest(key=key, operator=operator, values=values)
    assert (why_not(Where(terms=((test,),)), KITCHEN) == []) is holds
    assert preference(Where(preferred=(Preference(weight=7, term=(test,)),)), KITCHEN) == (7 if holds else 0)


def test_one_of_several_terms_is_enough_and_all_tests_of_a_term_are_needed() -> None:
    room, hill = (LabelTest(key="room", operator="Exists"), LabelTest(key="site", operator="In", values=("hill",)))
    assert why_not(Where(terms=((hill,), (room,))), KITCHEN) == []
    assert why_not(Where(terms=((room, hill),)), KITCHEN) == ["site in (hill): it is 'lake'"]


peers = st.sets(st.text("abcdefgh234567", min_size=20, max_size=20), min_size=1, max_size=30)


@given(peers, st.integers(1, 8))
def test_who_goes_is_replaced_and_nobody_else_moves(known: set[str], replicas: int) -> None:
    component = replace(VIEWER, replicas=replicas)
    among = dict.fromkeys(sorted(known), KITCHEN)
    before = chosen("author", "app", component, among)
    assert len(before) == min(replicas, len(among))
    assert chosen("author", "app", component, dict(reversed(among.items()))) == before  # the order says nothing
    for gone in before:
        after = chosen("author", "app", component, {peer: has for peer, has in among.items() if peer != gone})
        assert set(before) - {gone} <= set(after)
    newcomer = {**among, "z" * 20: KITCHEN}
    assert len(set(before) - set(chosen("author", "app", component, newcomer))) <= 1


def test_each_component_has_an_order_of_its_own() -> None:
    among = {f"{number:020}": KITCHEN for number in range(40)}
    orders = {chosen("author", "app", replace(VIEWER, name=f"c-{number}"), among) for number in range(10)}
    assert len(orders) == 10


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_hours() -> None:
    nights = Hours(spans=((1_320, 360),), days=(5,))  # of Saturdays
    assert is_active(None, 0)
    assert not is_active(nights, at("2026-03-07T21:59"))  # a Saturday
    assert is_active(nights, at("2026-03-07T22:00"))
    assert is_active(nights, at("2026-03-08T05:59"))  # it began on the Saturday
    assert not is_active(nights, at("2026-03-08T06:00"))
    assert not is_active(nights, at("2026-03-08T22:00"))
    assert not is_active(nights, at("2026-03-07T05:00"))
    assert is_active(Hours(days=(6,)), at("2026-03-08T12:00"))
    assert not is_active(Hours(days=(6,)), at("2026-03-09T00:00"))
    east = Hours(spans=((480, 600),), utc_offset_minutes=120)
    assert is_active(east, at("2026-03-09T06:00"))
    assert not is_active(east, at("2026-03-09T08:00"))
    assert in_words(Hours(spans=((1_320, 360),), days=(5, 6), utc_offset_minutes=-210)) == (
        "22:00-06:00 on sat, sun (UTC-03:30)"
    )
