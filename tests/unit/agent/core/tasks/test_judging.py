"""The policy that tasks are judged by: what each setting means, and what must hold whatever is said."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.swarm.digits import digits_manifest

from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.settings import ConsentRule, ReviewPolicy
from grapevine_agent.core.tasks.consent import decide
from grapevine_agent.core.tasks.judging import CLOCK_SLACK_MS, EARLIEST_MS, Verdict, judge, weigh
from grapevine_agent.printable import date_of
from grapevine_proto.manifest import ManifestBrief

ADA, BEN, CAT, DAN, AUTHOR, STRANGER = ("a" * 20, "b" * 20, "c" * 20, "d" * 20, "e" * 20, "f" * 20)
NOW = EARLIEST_MS + 100 * DAY_MS
MANIFEST = digits_manifest(AUTHOR, created_at_ms=NOW)
TWO = ReviewPolicy(approvals=2, trusted=frozenset((ADA, BEN, CAT)))
ROLES = replace(TWO, roles={"security": frozenset((CAT, DAN))}, need={"security": 1})


def yes(**changes: object) -> Verdict:
    return replace(Verdict(approved=True, made_at_ms=NOW, valid_until_ms=NOW + 7 * DAY_MS), **changes)  # type: ignore[arg-type]


def no(**changes: object) -> Verdict:
    return replace(yes(approved=False, reason="leaks"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "verdicts", "standing", "why"),
    [
        (TWO, {}, "waiting", "0 of 2 approvals"),
        (TWO, {ADA: yes()}, "waiting", "1 of 2"),
        (TWO, {ADA: yes(), BEN: yes()}, "approved", f"approved by {ADA}, {BEN}"),
        (TWO, {ADA: yes(), STRANGER: yes()}, "waiting", "1 of 2"),
        (TWO, {ADA: yes(), BEN: yes(), STRANGER: no()}, "approved", ""),
        (TWO, {ADA: yes(), BEN: yes(), CAT: no()}, "rejected", f"rejected by {CAT}: leaks"),
        (TWO, {ADA: yes(), BEN: yes(), CAT: no(withdrawn=True)}, "approved", ""),
        (TWO, {ADA: yes(), BEN: yes(withdrawn=True)}, "waiting", "1 of 2"),
        (replace(TWO, trusted=TWO.trusted | {AUTHOR}), {ADA: yes(), AUTHOR: yes()}, "waiting", "1 of 2"),
        (replace(TWO, trusted=TWO.trusted | {AUTHOR}), {ADA: yes(), BEN: yes(), AUTHOR: no()}, "approved", ""),
        (replace(TWO, trusted=frozenset((ADA,))), {ADA: yes()}, "waiting", "only 1 reviewers are trusted"),
        (
            replace(TWO, trusted=frozenset((ADA, AUTHOR))),
            {ADA: yes()},
            "waiting",
            "only 1 reviewers are trusted beside its author",
        ),
        (replace(TWO, approvals=0), {}, "approved", "policy"),
        # roles
        (ROLES, {ADA: yes(), BEN: yes()}, "waiting", "0 of 1 approvals by reviewers with the role security"),
        (ROLES, {ADA: yes(), CAT: yes()}, "approved", ""),
        (ROLES, {ADA: yes(), DAN: yes()}, "approved", ""),  # a role makes trusted
        (replace(ROLES, need={"data": 1}), {ADA: yes(), BEN: yes()}, "waiting", "only 0 reviewers have the role"),
        # vetoes
        (replace(TWO, veto="none"), {ADA: yes(), BEN: yes(), CAT: no()}, "approved", ""),
        (replace(TWO, veto="none", rejections=1), {ADA: yes(), BEN: yes(), CAT: no()}, "rejected", "leaks"),
        (replace(ROLES, veto="roles"), {ADA: no(), BEN: yes(), CAT: yes()}, "approved", ""),
        (replace(ROLES, veto="roles"), {ADA: yes(), BEN: yes(), CAT: no()}, "rejected", CAT),
        (replace(ROLES, veto="roles"), {ADA: no(), BEN: no(), CAT: yes(), DAN: yes()}, "rejected", ADA),  # two of them
        (
            replace(ROLES, veto="roles", veto_roles=frozenset(("data",))),
            {ADA: yes(), CAT: yes(), DAN: no()},
            "approved",
            "",
        ),
        # publishers
        (replace(TWO, publishers=frozenset((ADA,))), {ADA: yes(), BEN: yes()}, "unwanted", "not among"),
        (replace(TWO, deny_publishers=frozenset((AUTHOR,))), {ADA: yes(), BEN: yes()}, "unwanted", "denies"),
        (replace(TWO, approvals_of={AUTHOR: 1}), {ADA: yes()}, "approved", ""),
        (replace(ROLES, approvals_of={AUTHOR: 1}), {ADA: yes()}, "waiting", "role security"),
        (replace(ROLES, approvals_of={AUTHOR: 0}), {}, "approved", ""),
        (replace(ROLES, approvals_of={AUTHOR: 0}), {ADA: no()}, "rejected", ""),
        # time
        (TWO, {ADA: yes(), BEN: yes(valid_until_ms=NOW - 1)}, "waiting", "1 of 2"),
        (TWO, {ADA: yes(), BEN: yes(made_at_ms=NOW - 8 * DAY_MS, valid_until_ms=NOW + DAY_MS)}, "waiting", "1 of 2"),
        (
            replace(TWO, max_valid_days=9),
            {ADA: yes(), BEN: yes(made_at_ms=NOW - 8 * DAY_MS, valid_until_ms=NOW + DAY_MS)},
            "approved",
            "",
        ),
        (TWO, {ADA: yes(), BEN: yes(made_at_ms=0)}, "waiting", "1 of 2"),
        (TWO, {ADA: yes(), BEN: yes(), CAT: no(made_at_ms=NOW - 99 * DAY_MS)}, "rejected", ""),
        (TWO, {ADA: yes(), BEN: yes(made_at_ms=NOW + CLOCK_SLACK_MS + 1)}, "waiting", "1 of 2"),
        (TWO, {ADA: yes(), BEN: yes(made_at_ms=NOW + CLOCK_SLACK_MS)}, "approved", ""),
        (TWO, {ADA: yes(), BEN: yes(), CAT: no(made_at_ms=NOW + 9 * CLOCK_SLACK_MS)}, "rejected", ""),
    ],
)
def test_a_policy_judges_as_it_says(
    policy: ReviewPolicy, verdicts: dict[str, Verdict], standing: str, why: str
) -> None:
    judgement = judge(AUTHOR, verdicts, policy, NOW)
    assert judgement.standing == standing, judgement.why
    assert why in judgement.why


def test_a_judgement_says_when_time_alone_may_change_it_and_then_it_does() -> None:
    verdicts = {ADA: yes(), BEN: yes(valid_until_ms=NOW + 500)}
    judgement = judge(AUTHOR, verdicts, TWO, NOW)
    assert judgement.changes_at_ms == NOW + 501
    assert judge(AUTHOR, verdicts, TWO, NOW + 500).standing == "approved"
    assert judge(AUTHOR, verdicts, TWO, NOW + 501).standing == "waiting"
    for expires_at_ms, until_ms in ((NOW + 100, 0), (0, NOW + 100), (NOW + 100, NOW + 200)):
        mortal = partial(judge, AUTHOR, verdicts, TWO, expires_at_ms=expires_at_ms, until_ms=until_ms)
        assert mortal(NOW).changes_at_ms == NOW + 101
        assert mortal(NOW + 101).standing == "expired"


def test_a_clock_that_nobody_has_set_approves_nothing_and_still_hears_a_rejection() -> None:
    verdicts = {ADA: yes(made_at_ms=1), BEN: yes(made_at_ms=1)}
    unset = judge(AUTHOR, verdicts, TWO, 60_000)
    assert unset.standing == "waiting"
    assert "clock says 1970-01-01" in unset.why
    assert judge(AUTHOR, verdicts | {CAT: no()}, TWO, 60_000).standing == "rejected"
    assert judge(AUTHOR, verdicts, TWO, 60_000, retraction="old").why == "retracted by its publisher: old"


def test_a_task_that_waits_for_a_clock_says_so() -> None:
    ahead, past = yes(made_at_ms=NOW + 2 * DAY_MS), yes(valid_until_ms=NOW - DAY_MS)
    told = judge(AUTHOR, {ADA: ahead, STRANGER: ahead, AUTHOR: ahead}, TWO, NOW).why
    assert told == (
        f"0 of 2 approvals by trusted reviewers; approved by {ADA}, dated 2.0 days ahead of this device's clock: "
        "one of the two clocks is wrong"
    )
    told = judge(AUTHOR, {ADA: yes(), BEN: past}, TWO, NOW).why
    assert told == f"1 of 2 approvals by trusted reviewers; approved by {BEN}, ran out on {date_of(NOW - DAY_MS)}"
    assert "approved by" not in judge(AUTHOR, {ADA: yes(withdrawn=True)}, TWO, NOW).why


def test_why_a_verdict_does_not_count_is_told() -> None:
    verdicts = {
        ADA: yes(made_at_ms=NOW - 8 * DAY_MS, valid_until_ms=NOW + 300 * DAY_MS),
        BEN: yes(made_at_ms=NOW + 3 * DAY_MS),
        CAT: no(withdrawn=True),
        AUTHOR: yes(),
        STRANGER: yes(),
    }
    why = {each.reviewer: each.ignored for each in weigh(verdicts, AUTHOR, TWO, NOW)}
    assert "max_valid_days = 7" in why[ADA]
    assert "3.0 days ahead of this device's clock" in why[BEN]
    assert why[CAT] == "withdrawn"
    assert why[AUTHOR] == "the author's own"
    assert why[STRANGER] == "not a reviewer whom you trust"


PEERS = st.sampled_from((ADA, BEN, CAT, DAN, AUTHOR, STRANGER))
TIMES = st.integers(NOW - 20 * DAY_MS, NOW + 20 * DAY_MS)
VERDICTS = st.builds(Verdict, approved=st.booleans(), made_at_ms=TIMES, valid_until_ms=TIMES, withdrawn=st.booleans())
SAID = st.dictionaries(PEERS, VERDICTS)
SOME = st.frozensets(PEERS, max_size=4)
POLICIES = st.builds(
    ReviewPolicy,
    approvals=st.integers(0, 4),
    trusted=SOME,
    roles=st.fixed_dictionaries({"security": SOME, "data": SOME}),
    need=st.dictionaries(st.sampled_from(("security", "data")), st.integers(1, 2)),
    veto=st.sampled_from(("trusted", "roles", "none")),
    veto_roles=st.sampled_from((frozenset(), frozenset(("security",)))),
    rejections=st.integers(1, 3),
    approvals_of=st.dictionaries(st.just(AUTHOR), st.integers(0, 2)),
)


@given(SAID, POLICIES, PEERS, TIMES)
def test_an_approval_more_never_takes_an_approval_of_the_task_away(
    said: dict[str, Verdict], policy: ReviewPolicy, reviewer: str, made_at_ms: int
) -> None:
    if judge(AUTHOR, said, policy, NOW).standing == "approved" and reviewer not in said:
        more = said | {reviewer: yes(made_at_ms=made_at_ms)}
        assert judge(AUTHOR, more, policy, NOW).standing == "approved"


@given(SAID, POLICIES, PEERS)
def test_a_rejection_more_never_lets_a_task_in(said: dict[str, Verdict], policy: ReviewPolicy, reviewer: str) -> None:
    before = judge(AUTHOR, said, policy, NOW).standing
    after = judge(AUTHOR, said | {reviewer: no()}, policy, NOW).standing
    held = said.get(reviewer)
    if held is None or held.approved:  # what it takes the place of was no rejection
        assert after == before or after != "approved"
        assert not (before == "rejected" and after != "rejected")


@given(SAID, POLICIES, VERDICTS)
def test_what_untrusted_peers_say_changes_nothing(
    said: dict[str, Verdict], policy: ReviewPolicy, verdict: Verdict
) -> None:
    for peer in {STRANGER, AUTHOR} - (policy.reviewers - {AUTHOR}):
        silent = {reviewer: each for reviewer, each in said.items() if reviewer != peer}
        assert judge(AUTHOR, silent, policy, NOW) == judge(AUTHOR, silent | {peer: verdict}, policy, NOW)


@given(SAID, POLICIES, TIMES)
def test_between_now_and_the_time_that_is_told_nothing_changes(
    said: dict[str, Verdict], policy: ReviewPolicy, at_ms: int
) -> None:
    judgement = judge(AUTHOR, said, policy, at_ms)
    until_ms = judgement.changes_at_ms or at_ms + 40 * DAY_MS
    assert until_ms > at_ms
    assert judge(AUTHOR, said, policy, until_ms - 1).standing == judgement.standing


# --- consent --------------------------------------------------------------------------------------

RULES = (
    ConsentRule(answer="never", publisher=STRANGER),
    ConsentRule(answer="auto", kind="digits-8x8", name="Hand*"),
    ConsentRule(answer="ask", kind="digits-8x8"),
)
HAND = replace(MANIFEST, name="Handwriting")


def test_the_owners_word_beats_rules_and_the_first_rule_that_fits_beats_the_default() -> None:
    assert decide(ManifestBrief.of(HAND), word=None, earlier=None, default="never", rules=RULES).joins
    assert not decide(ManifestBrief.of(HAND), word=False, earlier=None, default="auto", rules=RULES).joins
    strange = replace(HAND, publisher=STRANGER)
    assert (
        "consent rule publisher"
        in decide(ManifestBrief.of(strange), word=None, earlier=None, default="auto", rules=RULES).by
    )
    assert (
        decide(ManifestBrief.of(strange), word=True, earlier=None, default="never", rules=RULES).by
        == "the owner has joined it"
    )
    asked = decide(
        ManifestBrief.of(replace(MANIFEST, name="Other")), word=None, earlier=None, default="auto", rules=RULES
    )
    assert asked.waiting
    assert "grapevine join" in asked.by


def test_a_yes_covers_one_version_and_a_no_covers_those_after_it_too() -> None:
    after_yes = decide(ManifestBrief.of(MANIFEST), word=None, earlier=True, default="ask")
    assert not after_yes.joins
    assert "an earlier version" in after_yes.by
    assert decide(ManifestBrief.of(MANIFEST), word=None, earlier=True, default="auto").joins
    assert not decide(ManifestBrief.of(MANIFEST), word=None, earlier=False, default="auto").joins
    assert decide(ManifestBrief.of(MANIFEST), word=True, earlier=False, default="never").joins
