"""Chains of versions that come and go in any order, and the docket: each index is what looking at all anew gives."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.core.tasks.docket import Docket
from grapevine_agent.core.tasks.entry import OpenedManifests, TaskEntry
from grapevine_agent.core.tasks.lineage import MAX_DESCENDANTS, ancestors, descendants
from grapevine_agent.core.tasks.succession import Succession
from grapevine_proto.manifest import ManifestBrief

NUM = 7
opened = OpenedManifests()


def entry(number: int, parent: int | None, *, publisher: str = "p", version: int | None = None) -> TaskEntry:
    brief = ManifestBrief(
        name=f"{number}",
        publisher=publisher,
        kind="k",
        version=version if version is not None else number + 1,
        parent=f"{parent}" if parent is not None else "",
    )
    return TaskEntry(id=f"{number}", brief=brief, encoded=b"", opened=opened)


lines = st.tuples(*(st.one_of(st.none(), st.integers(0, max(0, number - 1))) for number in range(NUM)))
steps = st.lists(
    st.tuples(st.sampled_from(["come", "go", "follow", "leave", "willing", "unwilling"]), st.integers(0, NUM - 1)),
    max_size=60,
)


@given(lines, steps)
def test_who_comes_before_and_after_is_what_the_book_says(
    parents: tuple[int | None, ...], story: list[tuple[str, int]]
) -> None:
    entries: dict[str, TaskEntry] = {}
    succession = Succession(entries)
    followed: set[str] = set()
    willing: set[str] = set()
    for what, number in story:
        task = f"{number}"
        before_all = {each: succession.before(each) for each in followed}
        concerned: tuple[str, ...] = ()
        if what == "come" and task not in entries:
            entries[task] = entry(number, parents[number] if number else None)
            concerned = succession.arrived(task)
        elif what == "go" and task in entries:
            del entries[task]
            concerned = succession.gone(task)
            followed.discard(task)
            willing.discard(task)
        elif what == "follow" and task in entries:
            succession.follow(task)
            followed.add(task)
        elif what == "leave":
            succession.leave(task)
            followed.discard(task)
            willing.discard(task)
        elif what in ("willing", "unwilling") and task in followed:
            assert succession.set_willing(task, what == "willing") == (
                succession.before(task) if (what == "willing") != (task in willing) else ()
            )
            willing = willing | {task} if what == "willing" else willing - {task}
        anew = {each: tuple(other.id for other in ancestors(entries[each], entries)) for each in followed}
        assert {each: succession.before(each) for each in followed} == anew
        for each in (f"{n}" for n in range(NUM)):
            assert succession.follows(each) == (each in followed)
            after = {other for other in followed if each in anew[other]}
            assert succession.has_followers(each) == bool(after)
            assert set(succession.willing_after(each)) == after & willing
        if what in ("come", "go"):
            for each in followed:
                if before_all.get(each, anew[each]) != anew[each]:
                    assert {each, *before_all[each], *anew[each]} - {task} <= {*concerned, task}


def test_nothing_is_left_of_what_is_gone() -> None:
    entries = {f"{number}": entry(number, number - 1 if number else None) for number in range(NUM)}
    succession = Succession(entries)
    for task in entries:
        succession.follow(task)
        succession.set_willing(task, True)
    for task in list(entries):
        del entries[task]
        succession.gone(task)
    indexes = (succession._before, succession._after, succession._lacks, succession._lacking)
    assert not any(indexes)
    assert not succession._willing
    assert not succession._willing_after


def test_of_any_number_of_descendants_the_newest_are_named_and_falser_ones_are_not() -> None:
    entries = {f"{number}": entry(number, 0 if number else None) for number in range(3 * MAX_DESCENDANTS)}
    entries["false"] = entry(10**6, 0, publisher="other")
    entries["older"] = entry(10**6 + 1, 0, version=1)
    children = {"0": dict.fromkeys(each for each in entries if each != "0")}
    found = descendants(entries["0"], entries, children)
    newest = range(3 * MAX_DESCENDANTS - 1, 2 * MAX_DESCENDANTS - 1, -1)
    assert [each.id for each in found] == [f"{number}" for number in newest]


# --- the docket -----------------------------------------------------------------------------------


def test_a_task_that_waits_keeps_its_place_and_is_taken_once() -> None:
    docket = Docket()
    for task in ("a", "b", "a", "c"):
        docket.mark(task)
    docket.mark_each(["b", "d"])
    assert [docket.take() for _ in range(len(docket))] == ["a", "b", "c", "d"]


def test_tasks_ripen_when_their_time_has_come_some_at_a_time() -> None:
    docket = Docket()
    for number in range(10):
        docket.judged(f"{number}", 100 + number)
    docket.judged("3", 500)
    docket.judged("4", 0)
    docket.drop("5")
    assert docket.next_ms() == 100
    docket.ripen(107, 4)
    assert [docket.take() for _ in range(len(docket))] == ["0", "1", "2", "6"]
    docket.ripen(107, 4)
    assert [docket.take() for _ in range(len(docket))] == ["7"]
    assert docket.next_ms() == 108
    assert docket.due_ms("3") == 500
    docket.drop("8")
    docket.drop("9")
    docket.drop("3")
    assert docket.next_ms() == math.inf


def test_a_task_that_is_judged_for_ever_leaves_nothing_behind() -> None:
    docket = Docket()
    for number in range(5_000):
        docket.judged("a", 10_000 + number)
    assert len(docket._heap) <= 2 + 64
    assert docket.next_ms() == 14_999
