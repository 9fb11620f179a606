"""How a timeline goes about what does not work at once, what is told of it, and what ends it."""

import signal
from pathlib import Path

import pytest

from grapevine_agent.control.protocol import NoAnswerError
from grapevine_lab.pages import Table
from grapevine_lab.testbed.deeds import Deed
from grapevine_lab.testbed.making import _ended_by_signals
from grapevine_lab.testbed.report import _timeline
from grapevine_lab.testbed.running import _is_done
from grapevine_lab.testbed.store import TIMELINE, Lab, entries
from grapevine_proto.errors import GrapevineError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(
        folder=tmp_path,
        name="own",
        engine="processes",
        seed=0,
        root="grapevine/lab-test",
        source="own.toml",
        base=tmp_path,
        content={"review": {"reviewers": [0, 1]}},
        machines=(),
    )


def failing(error: Exception, patience_s: float) -> Deed:
    def do() -> None:
        raise error

    return Deed(at_s=10.0, what="peer-1 says approve first", do=do, patience_s=patience_s)


def test_a_word_that_cannot_be_said_yet_is_tried_again_and_told_once(lab: Lab) -> None:
    failed: list[str] = []
    said: list[str] = []
    deed = failing(GrapevineError("no task 'first'"), patience_s=5.0)

    assert not _is_done(lab, deed, 10.1, failed, said.append)
    assert (said, failed, entries(lab.folder / TIMELINE)) == ([], [], [])
    assert _is_done(lab, deed, 15.1, failed, said.append)
    assert failed == ["peer-1 says approve first: no task 'first'"]
    assert [text.strip() for text in said] == [
        "15.1 s  peer-1 says approve first",
        "that did not work: no task 'first'",
    ]
    (noted,) = entries(lab.folder / TIMELINE)
    assert noted["trouble"] == "no task 'first'"


@pytest.mark.parametrize(
    ("error", "patience_s"), [(GrapevineError("it is not there"), 0.0), (NoAnswerError("it may have been said"), 5.0)]
)
def test_what_may_have_been_done_and_what_is_no_word_are_tried_once(
    lab: Lab, error: Exception, patience_s: float
) -> None:
    failed: list[str] = []
    assert _is_done(lab, failing(error, patience_s), 10.1, failed, lambda _text: None)
    assert failed


def test_where_people_speak_in_the_scenario_nothing_is_approved_at_the_beginning(lab: Lab) -> None:
    shape = {"at_s": 2.0, "what": "shape", "machine": "peer-0", "delay_ms": 30.0, "kbit_per_s": 0.0}
    told = _timeline(lab, [{"at_s": 0.0, "what": "began"}, shape])
    assert isinstance(told, Table)
    assert [row[:2] for row in told.rows] == [["2.0", "peer-0: 30 ms, any rate"]]


def test_a_run_that_was_started_to_outlive_its_terminal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
