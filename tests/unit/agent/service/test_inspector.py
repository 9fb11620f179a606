"""Sources are looked at beside the service, in a process that may hang, grow or die, and each answer is kept."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from grapevine_agent.data.matching import PendingError, match_source
from grapevine_agent.data.source import DataSource
from grapevine_agent.service import inspector as module
from grapevine_agent.service.inspector import Inspector, identify
from grapevine_proto.manifest import DataContract, FeatureSpec

CONTRACT = DataContract(
    kind="points",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,)),
    target=FeatureSpec(name="y", dtype="int64", shape=()),
    num_classes=3,
)
DEADLINE_S = 100.0


@pytest.fixture
def inspector() -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    source = DataSource(name="garden", kind="points", path=tmp_path / "s.npz", reload_s=1.0)
    _write(source)
    return source


def _write(source: DataSource, label: int = 0, num: int = 20) -> None:
    np.savez(source.path, x=np.ones((num, 2)), y=np.full(num, label))


def _until(what: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + DEADLINE_S
    while not (value := what()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return value


def _looked(inspector: Inspector, source: DataSource) -> Any:
    try:
        return inspector.look(source, CONTRACT)
    except PendingError:
        return None


def _in_service(monkeypatch: pytest.MonkeyPatch, program: str) -> list[list[str]]:
    """Have processes run another program than the one that looks; the commands that were started."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return popen([sys.executable, "-c", program, *command[4:]] if program else command, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    return commands


def test_a_look_waits_for_nothing_and_a_task_waits_for_it(inspector: Inspector, source: DataSource) -> None:
    match = match_source(CONTRACT, [source], look=inspector.look)
    assert str(match) == "garden: its samples are being checked"
    assert not match
    assert _until(lambda: match_source(CONTRACT, [source], look=inspector.look))


def test_a_source_that_is_given_other_memory_is_looked_at_again_and_keeps_its_answer_meanwhile(
    inspector: Inspector, source: DataSource
) -> None:
    """A reload with another memory_mb ends no task that is joined."""
    assert _until(lambda: match_source(CONTRACT, [source], look=inspector.look))
    more, less = replace(source, max_bytes=1 << 30), replace(source, max_bytes=1)
    assert match_source(CONTRACT, [more], look=inspector.look)
    assert "max_bytes allows 0 MB" in str(match_source(CONTRACT, [less], look=inspector.look))
    with pytest.raises(PendingError):
        inspector.look(replace(source, name="other"), CONTRACT)


def test_no_later_source_is_taken_while_an_earlier_one_is_looked_at(inspector: Inspector, source: DataSource) -> None:
    other = replace(source, name="other")
    inspector.fresh(other, CONTRACT)
    assert not match_source(CONTRACT, [source, other], look=inspector.look)
    assert _until(lambda: match_source(CONTRACT, [source, other], look=inspector.look)).source == source


def test_an_unchanged_source_is_read_once_and_a_changed_one_again(
    inspector: Inspector, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _in_service(monkeypatch, "")
    monkeypatch.setattr(module, "PAUSE_TIMES", 0.0)
    for _ in range(5):
        assert inspector.fresh(source, CONTRACT).trouble == ""
        assert inspector.look(source, CONTRACT).trouble == ""
    assert len(started) == 1
    _write(source, label=7)
    assert "y[0]: 7 is no class" in inspector.fresh(source, CONTRACT).trouble
    assert len(started) == 2
    _write(source)
    _until(lambda: not inspector.look(source, CONTRACT).trouble)  # without anybody who waits


def test_the_last_answer_holds_until_there_is_another_and_a_source_that_changes_all_the_time_has_pauses(
    inspector: Inspector, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _in_service(monkeypatch, "")
    monkeypatch.setattr(module, "PAUSE_TIMES", 1e6)
    first = inspector.fresh(source, CONTRACT)
    for label in range(7, 12):
        _write(source, label=label)
        assert inspector.look(source, CONTRACT) == first
    _until(lambda: not inspector._desks[source].asked)
    assert len(started) == 1


def test_what_could_not_be_looked_at_is_tried_again_without_a_change(
    inspector: Inspector, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.0)
    monkeypatch.setattr(module, "PAUSE_TIMES", 0.0)
    with monkeypatch.context() as broken:
        _in_service(broken, "import sys; sys.exit(3)")
        assert "died (exit status 3" in inspector.fresh(source, CONTRACT).trouble
    _until(lambda: inspector.look(source, CONTRACT).description)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died (signal SIGSEGV): is it damaged?"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died (killed, perhaps by the kernel"),
        ("import time; time.sleep(1000)", "took longer than 1 s and was given up"),
        (
            "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'nonsense\\n'); input()",
            "answered with",
        ),
    ],
)
def test_a_process_that_dies_or_hangs_is_a_reason(
    inspector: Inspector, source: DataSource, program: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORTEST_DEADLINE_S", 1.0)
    _in_service(monkeypatch, program)
    trouble = inspector.fresh(source, CONTRACT).trouble
    assert trouble.startswith("garden: ")
    assert told in trouble
    assert "garden: " in str(match_source(CONTRACT, [source], look=inspector.look))


def test_an_archive_that_grows_beyond_all_bounds_is_a_reason(inspector: Inspector, tmp_path: Path) -> None:
    """Fortran's order is read at once: 128 MB, of a file of some kilobytes."""
    import io
    import zipfile

    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, header in (
            ("x", {"descr": "<f4", "fortran_order": True, "shape": (2**24, 2)}),
            ("y", {"descr": "|u1", "fortran_order": False, "shape": (2**24,)}),
        ):
            content = io.BytesIO()
            np.lib.format.write_array_header_1_0(content, header)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                entry.write(content.getvalue())
                for _ in range(2**24 * (8 if name == "x" else 1) // 2**24):
                    entry.write(bytes(2**24))
    inspector._memory_mb = 32
    source = DataSource(name="bomb", kind="points", path=tmp_path / "s.npz")
    assert "takes more memory than there is" in inspector.fresh(source, CONTRACT).trouble


def test_a_file_system_that_never_answers_keeps_nobody_else_waiting(
    inspector: Inspector, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    stuck = replace(source, name="stuck")

    def identified(asked: DataSource) -> Any:
        if asked.name == "stuck":
            never.wait(DEADLINE_S)
        return identify(asked)

    monkeypatch.setattr(module, "identify", identified)
    monkeypatch.setattr(module, "_SAY_SINCE_S", 0.0)
    assert _looked(inspector, stuck) is None
    assert inspector.fresh(source, CONTRACT).trouble == ""
    with pytest.raises(PendingError, match=r"does .* answer\?"):
        inspector.look(stuck, CONTRACT)
    never.set()


def test_news_are_told_and_what_is_known_already_is_none(inspector: Inspector, source: DataSource) -> None:
    import asyncio

    async def listen() -> list[int]:
        told: list[int] = []
        inspector.tell(asyncio.get_running_loop(), lambda: told.append(1))
        await asyncio.to_thread(inspector.fresh, source, CONTRACT)
        os.utime(source.path)
        await asyncio.to_thread(inspector.fresh, source, CONTRACT)
        _write(source, label=9)
        await asyncio.to_thread(inspector.fresh, source, CONTRACT)
        while len(told) < 2:
            await asyncio.sleep(0.02)
        return told

    assert len(asyncio.run(listen())) >= 2
    inspector._on_news()  # its loop has ended: nobody minds


def test_an_agent_that_ends_waits_for_no_look_and_leaves_no_process(
    inspector: Inspector, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_service(monkeypatch, "import time; time.sleep(1000)")
    before = {child.pid for child in psutil.Process().children()}
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(inspector.fresh(source, CONTRACT)))
    asking.start()
    _until(lambda: {child.pid for child in psutil.Process().children()} - before)
    inspector.close()
    asking.join(DEADLINE_S)
    assert [each.trouble for each in answers] == ["the agent ends"]
    _until(lambda: not {child.pid for child in psutil.Process().children()} - before)
    assert inspector.fresh(source, CONTRACT).trouble == "the agent ends"


def test_a_process_ends_with_whoever_asked_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    arguments = [
        sys.executable,
        "-P",
        "-m",
        "grapevine_agent.data.inspecting",
        str(theirs.fileno()),
        str(os.getpid()),
        "64",
    ]
    with subprocess.Popen(arguments, pass_fds=(theirs.fileno(),)) as process:
        theirs.close()
        ours.close()
        assert process.wait(DEADLINE_S) == 0
