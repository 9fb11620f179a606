"""Which task and which peer is meant: the rule itself, with strangers who choose names and ids to be mistaken for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.swarm.digits import built_digits

from grapevine_agent.core.tasks.entry import OpenedManifests, TaskEntry
from grapevine_agent.requests.naming import LEAST_TO_ACT, LEAST_TO_LOOK, find_peer, find_task, twins
from grapevine_proto.errors import RequestError, TaskError
from grapevine_proto.manifest import ManifestBrief

ADA, MALLORY = "a" * 20, "m" * 20
HONEST = "d8c9fad13b84" + "0" * 52
OTHER = "77" + "1" * 62
BLANKS = ["", " ", "\t", "\n", "\u00a0", "\u200b", "\u2060 \u3000", "\ufeff"]
NOTHING = ["*", "..", "../", "#", "+", "d8c9fad1*", "D8C9FAD13B84", " d8c9fad13b84", "d8c9fad13b84 ", "/", "%"]


def task(id_: str, name: str, publisher: str = ADA) -> TaskEntry:
    manifest = replace(built_digits().draft, name=name, publisher=publisher)
    return TaskEntry(id=id_, brief=ManifestBrief.of(manifest), encoded=b"", opened=OpenedManifests())


def book(*entries: TaskEntry) -> dict[str, TaskEntry]:
    return {entry.id: entry for entry in entries}


ONE = book(task(HONEST, "Handwritten digits"))


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("wanted", BLANKS)
def test_nothing_means_no_task_even_where_only_one_is_known(wanted: str, acts: bool) -> None:
    with pytest.raises(RequestError, match="no task is named"):
        find_task(wanted, ONE, acts=acts)
    with pytest.raises(RequestError, match="no peer is named"):
        find_peer(wanted, {ADA: "ada"}, acts=acts)


@pytest.mark.parametrize("length", range(1, 13))
def test_looking_takes_four_characters_of_an_id_and_acting_eight(length: int) -> None:
    for least, acts in ((LEAST_TO_LOOK, False), (LEAST_TO_ACT, True)):
        if length >= least:
            assert find_task(HONEST[:length], ONE, acts=acts).id == HONEST
        else:
            with pytest.raises(RequestError, match=f"too short: write at least {least}"):
                find_task(HONEST[:length], ONE, acts=acts)


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("wanted", NOTHING)
def test_a_word_is_taken_as_it_is_written(wanted: str, acts: bool) -> None:
    with pytest.raises(TaskError, match=r"no task .* is known here"):
        find_task(wanted, ONE, acts=acts)
    with pytest.raises((TaskError, RequestError)):
        find_peer(wanted, {ADA: "ada"}, acts=acts)


def test_a_near_miss_is_told_with_id_name_and_publisher() -> None:
    for wanted in ("D8C9FAD13B84", "handwritten digit", " d8c9fad13b84"):
        with pytest.raises(TaskError) as caught:
            find_task(wanted, ONE, acts=True)
        assert "did you mean" in str(caught.value)
        assert all(part in str(caught.value) for part in (HONEST, "Handwritten digits", ADA))


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "Handwritten digits",
        "handwritten DIGITS",
        "Handwritten  digits ",
        "Наndwritten digits",  # the first two letters are Cyrillic
        "Hаndwrittеn dіgіts",
        "Ηandwritten digits",  # the first is Greek
        "Ｈａｎｄｗｒｉｔｔｅｎ　ｄｉｇｉｔｓ",
        "Handwrіtten dіgіts",
    ],
)
def test_a_strangers_task_of_the_same_name_makes_it_mean_neither(name: str, acts: bool) -> None:
    both = book(task(HONEST, "Handwritten digits"), task(OTHER, name, MALLORY))
    with pytest.raises(RequestError) as caught:
        find_task("Handwritten digits", both, acts=acts)
    told = str(caught.value)
    assert all(part in told for part in ("write the id of one", HONEST, OTHER, ADA, MALLORY))
    assert find_task(HONEST[:LEAST_TO_ACT], both, acts=acts).id == HONEST
    assert [entry.id for entry in twins(both[HONEST], both)] == [OTHER]


def test_digits_and_letters_of_one_shape_are_one_to_a_reader() -> None:
    for mine, theirs in (("wine-1", "wine-l"), ("task O", "task 0"), ("Il", "ll")):
        both = book(task(HONEST, mine), task(OTHER, theirs, MALLORY))
        with pytest.raises(RequestError, match="any of these"):
            find_task(mine, both, acts=True)
    two = book(task(HONEST, "tail"), task(OTHER, "taint", MALLORY))
    assert find_task("tail", two, acts=True).id == HONEST


@pytest.mark.parametrize("acts", [False, True])
def test_a_name_that_is_the_beginning_of_another_tasks_id_means_neither(acts: bool) -> None:
    both = book(task(HONEST, "digits"), task(OTHER, HONEST[:12], MALLORY))
    with pytest.raises(RequestError, match="any of these"):
        find_task(HONEST[:12], both, acts=acts)
    assert find_task(HONEST[:13], both, acts=acts).id == HONEST


def test_a_whole_id_is_that_task_whatever_others_are_called() -> None:
    both = book(task(HONEST, "digits"), task(OTHER, HONEST, MALLORY))
    assert find_task(HONEST, both, acts=True).id == HONEST


def test_ids_that_begin_alike_are_listed_whole() -> None:
    ground = HONEST[:10] + "f" * 54
    both = book(task(HONEST, "digits"), task(ground, "other", MALLORY))
    with pytest.raises(RequestError) as caught:
        find_task(HONEST[:10], both, acts=True)
    assert HONEST in str(caught.value)
    assert ground in str(caught.value)


def test_a_long_list_is_cut_and_says_so() -> None:
    many = book(*(task(f"{number:02d}" + "a" * 62, "same", f"{MALLORY}") for number in range(25)))
    with pytest.raises(RequestError, match="and 15 more"):
        find_task("same", many, acts=False)


def test_a_short_name_that_could_be_an_id_is_still_a_name() -> None:
    assert find_task("face", book(task(HONEST, "face")), acts=True).id == HONEST
    with pytest.raises(RequestError, match="too short"):
        find_task("fac", book(task(HONEST, "face")), acts=False)


@given(st.text(max_size=90), st.booleans())
def test_whatever_is_written_means_the_task_that_it_names_or_nothing(wanted: str, acts: bool) -> None:
    both = book(task(HONEST, "digits"), task(OTHER, "wine", MALLORY))
    try:
        found = find_task(wanted, both, acts=acts)
    except (RequestError, TaskError):
        return
    least = LEAST_TO_ACT if acts else LEAST_TO_LOOK
    assert found.manifest.name == wanted or (found.id.startswith(wanted) and len(wanted) >= least)


def test_a_peer_is_an_id_the_beginning_of_one_or_the_only_one_of_a_name() -> None:
    peers = {"abcdefghij" * 2: "kitchen", "abcdzzzzzz" * 2: "shed", "7" * 20: "Kitchen"}
    assert find_peer("abcde", peers) == "abcdefghij" * 2
    assert find_peer("shed", peers, acts=True) == "abcdzzzzzz" * 2
    assert find_peer("q" * 20, peers) == "q" * 20
    with pytest.raises(RequestError, match="too short"):
        find_peer("abcde", peers, acts=True)
    with pytest.raises(RequestError, match="any of these"):
        find_peer("abcd", peers)
    with pytest.raises(RequestError, match="any of these"):
        find_peer("kitchen", peers)  # another one calls itself Kitchen


def test_a_peer_that_calls_itself_by_anothers_id_is_not_that_one() -> None:
    assert find_peer("a" * 20, {"b" * 20: "a" * 20, "a" * 20: ""}) == "a" * 20
