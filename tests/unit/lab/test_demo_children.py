import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from grapevine_lab.demo.children import ChildDiedError, Children
from grapevine_lab.demo.guarding import guarded

PATIENCE_S = 20.0


@pytest.fixture
async def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Children]:
    """Children that can be started as `python -m scenes CODE`, from a folder of the test's own."""
    (tmp_path / "scenes.py").write_text("import sys\nexec(sys.argv[1])\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("GRAPEVINE_STATE_DIR", "/the/owners")
    logs = tmp_path / "logs"
    logs.mkdir()
    started = Children(logs, {"GRAPEVINE_MQTT_PASSWORD": "secret"})
    yield started
    await started.end_all()


async def until(log: Path, text: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while text not in (written := log.read_text()):  # noqa: ASYNC240 - a few bytes
        assert time.monotonic() < deadline_s, written
        await asyncio.sleep(0.02)


async def test_a_child_that_is_told_to_end_may_say_goodbye(children: Children) -> None:
    code = (
        "import signal, time\n"
        "def leave(*_):\n    print('goodbye', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\nprint('here', flush=True)\ntime.sleep(60)"
    )
    child = await children.start("polite", ["scenes", code])
    await until(child.log, "here")

    await children.end_all()

    assert child.process.returncode == 0
    assert "goodbye" in child.log.read_text()
    assert children.running_pids == ()


async def test_a_dashboard_whose_port_is_taken_says_what_to_do_and_one_that_is_shown_says_where(
    children: Children, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        child = await children.start("dashboard", ["grapevine_lab.demo.showing", str(tmp_path), port], talks=True)
        with pytest.raises(ChildDiedError, match=rf"127\.0\.0\.1:{port}: cannot listen there .* Choose another port"):
            await children.first_line(child)
    child = await children.start("dashboard", ["grapevine_lab.demo.showing", str(tmp_path), "0"], talks=True)
    assert (await children.first_line(child)).startswith("dashboard: http://127.0.0.1:")


async def test_a_stubborn_child_and_what_it_started_are_killed(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_lab.demo.children.GOODBYE_S", 0.5)
    code = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "kid = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('kid', kid.pid, flush=True)\ntime.sleep(60)"
    )
    child = await children.start("stubborn", ["scenes", code])
    await until(child.log, "kid")
    grandchild = int(child.log.read_text().split()[1])

    await children.end_all()

    assert child.process.returncode == -signal.SIGKILL
    deadline_s = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


async def test_an_unexpected_end_names_the_child_and_quotes_its_log(children: Children) -> None:
    await children.start("steady", ["scenes", "import time; time.sleep(60)"])
    await children.start("agent 3", ["scenes", "print('out of luck'); sys.exit(7)"])

    with pytest.raises(ChildDiedError, match=r"(?s)agent 3 ended with status 7.*out of luck") as caught:
        await asyncio.wait_for(children.watch(), PATIENCE_S)
    assert caught.value.child == "agent 3"


async def test_a_child_that_we_kill_is_no_unexpected_end(children: Children) -> None:
    child = await children.start("server", ["scenes", "import time; time.sleep(60)"])

    await children.kill(child)

    assert child.process.returncode == -signal.SIGKILL
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(children.watch(), 0.2)


async def test_a_command_gives_its_output_or_its_failure(children: Children) -> None:
    assert await children.run("fine", ["scenes", "print('result')"]) == "result\n"
    with pytest.raises(ChildDiedError, match=r"(?s)broken ended with status 3.*no such task"):
        await children.run("broken", ["scenes", "print('no such task', file=sys.stderr); sys.exit(3)"])


async def test_children_get_their_own_settings_and_not_those_of_the_owner(children: Children) -> None:
    code = "import os; print(sorted((k, v) for k, v in os.environ.items() if k.startswith('GRAPEVINE_')))"

    assert await children.run("look", ["scenes", code]) == "[('GRAPEVINE_MQTT_PASSWORD', 'secret')]\n"


async def test_logs_can_be_kept(children: Children, tmp_path: Path) -> None:
    await children.run("agent 0", ["scenes", "print('a line', file=sys.stderr)"])

    children.keep_logs(tmp_path / "out" / "logs")

    assert (tmp_path / "out" / "logs" / "agent-0.log").read_text() == "a line\n"


def test_children_do_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\n"
        "from grapevine_lab.demo.children import Children\n"
        "async def main():\n"
        "    children = Children(pathlib.Path(sys.argv[1]))\n"
        "    child = await children.start('http', ['http.server', '0', '--bind', '127.0.0.1'])\n"
        "    print(child.process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline_s = time.monotonic() + PATIENCE_S
        while "Serving" not in (tmp_path / "http.log").read_text():  # it has taken its leash
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        parent.kill()
        parent.wait()
        while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


async def test_a_guard_that_fails_ends_the_story_with_its_error() -> None:
    async def fail() -> None:
        raise ChildDiedError("agent 1", "agent 1 died")

    with pytest.raises(ChildDiedError):
        await guarded(asyncio.sleep(60), [asyncio.create_task(fail())])


async def test_a_guard_that_is_done_early_lets_the_story_go_on() -> None:
    async def story() -> str:
        await asyncio.sleep(0.05)
        return "told"

    assert await guarded(story(), [asyncio.create_task(asyncio.sleep(0))]) == "told"


async def test_a_story_that_fails_because_a_child_died_is_explained_by_the_child() -> None:
    async def story() -> None:
        raise ConnectionResetError

    async def notice() -> None:
        await asyncio.sleep(0.05)
        raise ChildDiedError("alone", "alone died")

    with pytest.raises(ChildDiedError, match="alone died"):
        await guarded(story(), [asyncio.create_task(notice())])
