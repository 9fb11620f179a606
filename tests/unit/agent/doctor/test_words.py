"""What brokers and reviewers come to, in words: pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.cli.examined import _line
from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.doctor.asking import Met
from grapevine_agent.doctor.brokers import all_together, as_the_agent_sees_it, findings_of, split
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.doctor.trust import trust
from grapevine_agent.printable import printable

ADA, BEN, EVA = "a" * 20, "b" * 20, "e" * 20


def test_a_finding_is_printed_as_it_is_and_steers_no_terminal() -> None:
    said = _line(Finding(check="data", about="d", level="fail", says="'\\n' [red]\x1b", remedy="C:\\")).plain
    assert said.splitlines() == [
        r"✗ data           d: '\n' [red]\x1b".replace("\\x1b", printable("\x1b")),
        " " * 17 + "→ C:\\",
    ]


@pytest.mark.parametrize(
    ("reason", "says", "remedy"),
    [
        (
            "nothing listens on hub:1883: is the broker running?",
            "nothing listens on hub:1883",
            "is the broker running? start it, or name another one in [mqtt] brokers",
        ),
        (
            "it closed (lost); port 8883 speaks TLS: write mqtts://hub:8883",
            "it closed (lost); port 8883 speaks TLS",
            "write mqtts://hub:8883 into [mqtt] brokers",
        ),
        (
            "the connection broke (ValueError: what)",
            "the connection broke (ValueError: what)",
            "look at the broker's log; the agent goes on trying",
        ),
        ("TLS failed (reset)", "TLS failed (reset)", "look at the broker's log; the agent goes on trying"),
    ],
)
def test_a_reason_is_what_is_wrong_and_what_to_do(reason: str, says: str, remedy: str) -> None:
    assert split(reason) == (says, remedy)


def test_a_broker_that_is_away_is_no_failure_where_another_has_us() -> None:
    away = [Finding(check="broker", about="a", level="fail", says="away")]
    here = [
        Finding(check="broker", about="b", level="ok", says="here"),
        Finding(check="access", about="b", level="fail", says="forbidden"),
    ]
    assert [each.level for each in all_together([away, here])] == ["warn", "ok", "fail"]
    assert [each.level for each in all_together([away, away])] == ["fail", "fail"]


def test_why_the_agent_is_not_connected_is_told_unless_a_broker_says_it_already() -> None:
    away = Finding(check="broker", level="fail", says="nothing listens on hub:1883")
    status: dict[str, object] = {
        "connected": False,
        "trouble": "cannot reach mqtt://hub: nothing listens on hub:1883: is it running?",
    }
    assert as_the_agent_sees_it(status, [away]) == []
    (line,) = as_the_agent_sees_it(status, [Finding(check="broker", level="ok", says="takes us in")])
    assert (line.check, line.level) == ("broker", "warn")
    assert "nothing listens on hub:1883" in line.says
    nothing: dict[str, object] = {}
    for well in (nothing, status | {"connected": True}, status | {"sleep": {"asleep": True}}, status | {"trouble": ""}):
        assert as_the_agent_sees_it(well, []) == []


@pytest.mark.parametrize(
    ("exact", "says"),
    [(True, "to wildcard subscriptions"), (False, "to whoever subscribes")],
)
def test_a_broker_that_gives_less_is_told_as_status_tells_it(exact: bool, says: str) -> None:
    met = Met(
        url="mqtt://hub",
        connected=True,
        record="taken",
        read="taken",
        comes=True,
        wildcard=False,
        exact=exact,
        inbox="taken",
        is_done=True,
    )
    lines = {each.check: each for each in findings_of(met, root="r", peer=ADA, wanted_bytes=1_000)}
    assert lines["access"].level == "ok"
    assert lines["retained"].level == "warn"
    assert says in lines["retained"].says
    assert lines["packets"].level == "skip"


def test_a_name_that_was_made_up_proves_nothing_of_access_rules() -> None:
    met = Met(url="mqtt://hub", connected=True, record="taken", read="taken", comes=False, inbox="silent", is_done=True)
    asked = findings_of(met, root="r", peer=ADA, wanted_bytes=1_000, is_stand_in=True)
    assert [(each.check, each.level) for each in asked] == [("broker", "ok"), ("access", "warn")]
    own = findings_of(met, root="r", peer=ADA, wanted_bytes=1_000)
    assert [(each.check, each.level) for each in own] == [("broker", "ok"), ("access", "fail")]
    for right in (f"write r/peer/{ADA}/#", "read r/peer/#", f"write r/inbox/+/{ADA}/#", f"read r/inbox/{ADA}/#"):
        assert right in own[1].remedy


def test_what_was_not_asked_in_time_is_not_called_well() -> None:
    met = Met(url="mqtt://hub", connected=True, record="taken", read="taken", comes=True, wildcard=True, inbox="taken")
    lines = {each.check: each for each in findings_of(met, root="r", peer=ADA, wanted_bytes=1_000)}
    assert lines["access"].level == "warn"
    assert "too slow" in lines["access"].says


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("", "warn", "nobody is trusted to review"),
        (f'[review]\ntrusted = ["{ADA}", "{BEN}"]', "ok", "2 reviewers, of whom 2 have to approve; 1 of them"),
        (f'[review]\ntrusted = ["{ADA}"]\napprovals = 1', "ok", "1 reviewer, of whom 1"),
        ("[review]\napprovals = 0", "ok", "no approval is asked for"),
        ('[agent]\nconsent = "auto"\n[review]\napprovals = 0', "warn", "whatever anybody publishes is trained"),
        ("[trust.approvals]\nown = 0", "ok", "0 reviewers"),
    ],
)
def test_whether_the_approvals_that_are_asked_for_can_be_given(
    tmp_path: Path, text: str, level: str, says: str
) -> None:
    assert one_line(tmp_path, text).level == level
    assert says in one_line(tmp_path, text).says


def test_too_few_in_the_trust_file_can_never_approve(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "trust.toml").write_text(f'[[peer]]\nid = "{EVA}"\nas = "reviewer"\n')
    line = one_line(tmp_path, "")
    assert (line.level, line.says) == ("fail", "1 reviewer can never give the 2 approvals that are asked for")
    (tmp_path / "state" / "trust.toml").write_text(
        "".join(f'[[peer]]\nid = "{each}"\nas = "reviewer"\nroles = ["doctor"]\n' for each in (EVA, ADA))
    )
    line = one_line(tmp_path, "[review.need]\ndoctor = 3")
    assert line.level == "fail"
    assert "too few reviewers have the role doctor" in line.says


def one_line(folder: Path, text: str) -> Finding:
    path = folder / "agent.toml"
    table = "" if text.startswith("[agent]") else "[agent]\n"
    path.write_text(f"{table}{text}\n".replace("[agent]\n", f'[agent]\nstate_dir = "{folder / "state"}"\n', 1))
    situation = Situation(path=path, config=load_config(path, {}))
    (line,) = trust(situation, {ADA: True, "z" * 20: False})
    return line
