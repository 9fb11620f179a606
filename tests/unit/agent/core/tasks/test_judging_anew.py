"""After any statements, expiries and restarts, what was judged bit by bit is what judging all anew gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.agent.core.tasks.device import ADA, BEN, CAT, ENGINEER, NOW_MS, SETTINGS, STRANGER, WEIGHTS, Device

from grapevine_agent.core.learning.setbacks import Failure
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.core.tasks.judging import judge
from grapevine_lab.bench import floods
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.weights import reference_to

# Two lines of versions, one with a fork and a false child of a stranger's.
PARENTS = (None, 0, 1, 1, 0, None, 5, 2)
PUBLISHERS = (ENGINEER, ENGINEER, ENGINEER, ENGINEER, STRANGER, CAT, CAT, ENGINEER)


def _manifests() -> list[tuple[str, str, bytes]]:
    made: list[tuple[str, str, bytes]] = []
    for number, (parent, publisher) in enumerate(zip(PARENTS, PUBLISHERS, strict=True)):
        manifest = floods.manifest(
            publisher,
            name=f"task {number}",
            version=number + 1,
            parent=made[parent][1] if parent is not None else "",
            initial_weights=reference_to(WEIGHTS),
        )
        encoded = encode_manifest(manifest)
        made.append((publisher, task_id(encoded), encoded))
    return made


TASKS = _manifests()
IDS = [task for _, task, _ in TASKS]


@dataclass
class Data:
    """Which tasks the owner has data for: that changes without a word."""

    missing: frozenset[str] = frozenset()


# --- what may happen ------------------------------------------------------------------------------

numbers = st.integers(0, len(TASKS) - 1)
lives_s = st.sampled_from([0, 5, 20, 60, 500])  # 0: for ever
Happening: TypeAlias = tuple[object, ...]
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), numbers, lives_s),
        st.tuples(st.just("review"), st.sampled_from([ADA, BEN, CAT]), numbers, st.booleans(), lives_s),
        st.tuples(st.just("review"), st.sampled_from([ADA, BEN]), numbers, st.just(True), st.just(500)),
        st.tuples(st.just("withdraw"), st.sampled_from([ADA, BEN, CAT]), numbers),
        st.tuples(st.just("retract"), numbers),
        st.tuples(st.just("consent"), numbers, st.booleans()),
        st.tuples(st.just("trust"), st.sets(st.sampled_from([ADA, BEN, CAT]), min_size=1), st.integers(0, 2)),
        st.tuples(st.just("data"), st.sets(numbers, max_size=2)),
        st.tuples(st.just("clock"), st.integers(-50, 50)),
        st.tuples(st.just("fail"), numbers),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 4, 11, 30])),
        st.tuples(st.just("disk"), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    min_size=5,
    max_size=40,
)


def happen(device: Device, data: Data, what: Happening) -> Device:
    now = device.moment()
    match what:
        case ("publish", int(number), int(life_s)):
            publisher, task, encoded = TASKS[number]
            until_ms = now.wall_ms + life_s * 1000 if life_s else 0
            device.hear(floods.published(publisher, task, encoded, expires_at_ms=until_ms))
        case ("review", str(reviewer), int(number), bool(approved), int(life_s)):
            until_ms = now.wall_ms + (life_s or 10_000) * 1000
            device.approve(IDS[number], reviewer, approved=approved, until_ms=until_ms)
        case ("withdraw", str(reviewer), int(number)):
            body = Review(task=IDS[number], approved=False, withdrawn=True)
            device.hear(floods.heard(TaskTopic(reviewer, IDS[number], "review"), body))
        case ("retract", int(number)):
            topic = TaskTopic(PUBLISHERS[number], IDS[number], "manifest")
            device.hear(floods.heard(topic, TaskPublication(retracted=True)))
        case ("consent", int(number), bool(joined)):
            device.perform(device.core.set_consent(IDS[number], joined, now))
        case ("trust", set() as trusted, int(approvals)):
            policy = replace(device.core.settings.review, trusted=frozenset(trusted), approvals=approvals)
            device.perform(device.core.set_settings(replace(device.core.settings, review=policy), now))
        case ("data", set() as missing):
            data.missing = frozenset(IDS[number] for number in missing)
        case ("clock", int(by_s)):
            device.wall_shift_ms += by_s * 1000
        case ("fail", int(number)):
            if (learner := device.core.tasks.learning.get(IDS[number])) is not None:
                learner.trials.failure = Failure(kind="training", why="its trainer cannot run it")
        case ("wait", float() | int() as for_s):
            device.wait(for_s)
        case ("disk", bool(answers)):
            device.loads = answers
            if answers:
                device.load()
        case ("restart",):
            device = device.restart()
    return device


# --- the oracle: everything is looked at, as if nothing were known of what changed ----------------


def ancestors_anew(entry: TaskEntry, entries: dict[str, TaskEntry]) -> list[str]:
    found: list[str] = []
    while True:
        parent = entries.get(entry.brief.parent)
        if (
            parent is None
            or parent.brief.publisher != entry.brief.publisher
            or parent.brief.version >= entry.brief.version
        ):
            return found
        found.append(parent.id)
        entry = parent


def own_reasons_anew(device: Device, entry: TaskEntry) -> list[str]:
    core, wall_ms = device.core, device.moment().wall_ms
    verdicts = core.book.reviews.get(entry.id, {})
    judgement = judge(
        entry.manifest.publisher,
        verdicts,
        core.settings.review,
        wall_ms,
        expires_at_ms=entry.manifest.expires_at_ms,
        until_ms=entry.until_ms,
        retraction=entry.retraction if entry.retracted else None,
    )
    decision = core.book.decide(entry, core.settings)
    set_back = entry.setback.reason(device.now_s) if entry.setback is not None else ""
    reasons = [judgement.why if judgement.standing != "approved" else "", set_back]
    reasons += ["" if decision.joins else decision.by, core.settings.match_data(entry.id, entry.manifest)]
    return [reason for reason in reasons if reason]


def should_take_part_anew(device: Device, entry: TaskEntry) -> bool:
    core = device.core
    if own_reasons_anew(device, entry):
        return False
    takes_part = core.tasks.assessor.takes_part(entry.id)
    for other in core.book.entries.values():
        if entry.id not in ancestors_anew(other, core.book.entries):
            continue
        if other.id in core.tasks.learning or (not takes_part and not own_reasons_anew(device, other)):
            return False
    return True


def check(device: Device) -> None:
    core, entries = device.core, device.core.book.entries
    for entry in entries.values():
        takes_part = core.tasks.assessor.takes_part(entry.id)
        assert takes_part == should_take_part_anew(device, entry), (entry.brief.name, device.why_not(entry.id))
        assert takes_part == (not device.why_not(entry.id))
    assert set(core.tasks.all_parts()) <= entries.keys()
    # The indexes are what the book says, and nothing of what is gone is left in them.
    children: dict[str, set[str]] = {}
    for entry in entries.values():
        if entry.brief.parent:
            children.setdefault(entry.brief.parent, set()).add(entry.id)
    assert {parent: set(each) for parent, each in core.book.children.items()} == children
    succession = core.tasks.assessor.succession
    for task in IDS:
        if not succession.follows(task):
            continue
        assert list(succession.before(task)) == ancestors_anew(entries[task], entries)
        assert succession.is_willing(task) == (not own_reasons_anew(device, entries[task]))
    held = {each.topic for each in core.records}
    for task, verdicts in core.book.reviews.items():
        for reviewer in verdicts:
            assert TaskTopic(reviewer, task, "review") in held or task in entries
    # What is kept on disk is what is held.
    assert device.disk.records.keys() == held


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(numbers), happenings)
def test_judging_bit_by_bit_gives_what_judging_all_anew_gives(approved: set[int], story: list[Happening]) -> None:
    data = Data()

    def match_data(task: str, _head: object) -> str:
        return "no data" if task in data.missing else ""

    policy = replace(SETTINGS.review, approvals=1)
    device = Device(replace(SETTINGS, review=policy, match_data=match_data))
    beginning: list[Happening] = [("publish", number, 0) for number in range(len(TASKS))] if approved else []
    beginning += [("review", ADA, number, True, 500) for number in sorted(approved)]
    for what in (*beginning, *story):
        device = happen(device, data, what)
        device.settle()
        if what[0] in ("data", "clock", "fail"):
            device.wait(11)  # nobody says that these changed: it is found out within ten seconds
            device.settle()
        check(device)
    device.loads = True
    device.load()
    again = device.restart()
    for each in (device, again):
        each.wait(11)
        each.settle()
        check(each)
    learned = set(device.core.tasks.all_parts())
    entries = device.core.book.entries.values()
    only_here = any(
        each.setback
        or each.retracted
        or TaskTopic(each.brief.publisher, each.id, "manifest") not in device.disk.records
        for each in entries
    ) or any(
        TaskTopic(reviewer, task, "review") not in device.disk.records
        for task, verdicts in device.core.book.reviews.items()
        for reviewer in verdicts  # that ran out, and counts again since the clock was set back
    )  # what a new life does not know
    if not only_here and not device.core.book._refusals:
        assert set(again.core.tasks.all_parts()) == learned


def test_the_oracle_itself_says_what_was_always_said() -> None:
    device = Device()
    for number in range(3):
        publisher, task, encoded = TASKS[number]
        device.hear(floods.published(publisher, task, encoded))
    device.approve(IDS[0])
    device.approve(IDS[2])
    entries = device.core.book.entries
    assert ancestors_anew(entries[IDS[2]], entries) == [IDS[1], IDS[0]]
    assert [should_take_part_anew(device, entries[task]) for task in IDS[:3]] == [False, False, True]
    assert device.moment().wall_ms == NOW_MS
