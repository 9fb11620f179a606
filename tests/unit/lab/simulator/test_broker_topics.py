"""Both indexes find what a matcher finds that is written from the standard's words."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_lab.simulator.broker_topics import FilterIndex, TopicIndex

levels = st.sampled_from(["", "a", "b", "$x"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(st.one_of(levels, st.just("+")), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join([*parts[0], *parts[1]]))
    .filter(bool)
)


def naive_match(topic_filter: str, topic: str) -> bool:
    """MQTT 5, sections 4.7.1 and 4.7.2, word by word."""
    wanted, given_levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    while wanted and wanted[0] != "#":
        if not given_levels or wanted[0] not in ("+", given_levels[0]):
            return False
        wanted, given_levels = wanted[1:], given_levels[1:]
    return bool(wanted) or not given_levels


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/#", "a", True),
        ("#", "$x", False),
        ("$x/#", "$x", True),
        ("/+", "/", True),
        ("+", "/", False),
    ],
)
def test_the_naive_matcher_knows_the_examples_of_the_standard(topic_filter: str, topic: str, matches: bool) -> None:
    assert naive_match(topic_filter, topic) == matches


@given(st.lists(filters, unique=True), st.lists(filters), topics)
def test_filters_are_found_as_a_naive_matcher_finds_them(added: list[str], removed: list[str], topic: str) -> None:
    index: FilterIndex[str] = FilterIndex()
    for topic_filter in added:
        index.put(topic_filter, "client", topic_filter)
    for topic_filter in set(added) & set(removed):
        index.remove(topic_filter, "client")
    found = sorted(value for values in index.matching(topic) for value in values.values())
    assert found == sorted(each for each in set(added) - set(removed) if naive_match(each, topic))
    for topic_filter in set(added) - set(removed):
        index.remove(topic_filter, "client")
    assert pickle.dumps(index) == pickle.dumps(FilterIndex()), "nothing stays behind"


@given(st.lists(topics, unique=True), st.lists(topics), filters)
def test_topics_are_found_as_a_naive_matcher_finds_them(
    added: list[str], removed: list[str], topic_filter: str
) -> None:
    index: TopicIndex[str] = TopicIndex()
    for topic in added:
        index.put(topic, topic)
    for topic in removed:
        index.remove(topic)
    left = set(added) - set(removed)
    assert sorted(index.matching(topic_filter)) == sorted(each for each in left if naive_match(topic_filter, each))
    assert len(index) == len(left)
    for topic in left:
        index.remove(topic)
    assert pickle.dumps(index) == pickle.dumps(TopicIndex()), "nothing stays behind"
