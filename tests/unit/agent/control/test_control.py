import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from grapevine_agent.control.client import agent_of, call
from grapevine_agent.control.protocol import MAX_REPLY_BYTES, MAX_REQUEST_BYTES, NoAnswerError, NoServiceError
from grapevine_agent.control.server import ControlServer
from grapevine_proto.errors import (
    BrokerError,
    ConfigError,
    GrapevineError,
    StoreError,
    TaskError,
    WireError,
)

ERRORS = {
    "config": ConfigError("write it so"),
    "task": TaskError("no such task"),
    "broker": BrokerError("gone"),
    "store": StoreError("full"),
    "wire": WireError("too-big", "9 MB"),
    "plain": GrapevineError("no"),
}


async def answer(request: dict[str, Any]) -> Any:
    method, params = request["method"], request["params"]
    match method:
        case "echo":
            return params
        case "fail":
            raise ERRORS[params["with"]]
        case "crash":
            raise RuntimeError("a secret detail")
        case "sleep":
            await asyncio.sleep(60)
        case "large":
            return "x" * MAX_REPLY_BYTES
        case "unsayable":
            return {"set": {1}}
    raise TaskError(f"unknown method {method!r}")


async def ask(path: Path, method: str, params: dict[str, Any] | None = None, timeout_s: float = 10.0) -> Any:
    """`call`, off the loop that answers it."""
    return await asyncio.to_thread(call, path, method, params, timeout_s)


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    async with ControlServer(tmp_path / "agent.sock", answer):
        yield tmp_path / "agent.sock"


async def raw(path: Path, sent: bytes) -> list[dict[str, Any]]:
    """Send bytes, end the sending side, and return all replies."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_REPLY_BYTES)
    writer.write(sent)
    writer.write_eof()
    replies = [json.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return replies


async def test_a_command_gets_its_answer(path: Path) -> None:
    params = {"task": "näme", "numbers": [1, 2.5, None, True]}
    assert await ask(path, "echo", params) == params
    assert await asyncio.to_thread(call, path, "echo") == {}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_arrives_as_what_it_was(path: Path, name: str) -> None:
    with pytest.raises(GrapevineError) as caught:
        await ask(path, "fail", {"with": name})
    assert type(caught.value) is type(ERRORS[name])
    assert str(caught.value) == str(ERRORS[name])


async def test_a_crash_is_logged_here_and_not_told_there(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for method in ("crash", "unsayable"):
        with pytest.raises(GrapevineError, match="its log says why") as caught:
            await ask(path, method)
        assert "secret" not in str(caught.value)
    assert "a secret detail" in caplog.text
    assert await ask(path, "echo") == {}


async def test_one_connection_carries_many_requests(path: Path) -> None:
    lines = b"".join(b'{"method": "echo", "params": {"n": %d}}\n' % n for n in range(20))
    assert [reply["result"]["n"] for reply in await raw(path, lines)] == list(range(20))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"{\n",
        b"\xff\xfe\n",
        b'{"method": 3}\n',
        b'{"params": {}}\n',
        b'{"method": "echo", "params": []}\n',
        b"[" * 100_000 + b"\n",
    ],
)
async def test_nonsense_is_refused_and_the_next_line_answered(path: Path, line: bytes) -> None:
    first, second = await raw(path, line + b'{"method": "echo"}\n')
    assert first["ok"] is False
    assert "request" in first["error"]
    assert second == {"ok": True, "result": {}}


async def test_a_request_without_its_end_is_none(path: Path) -> None:
    assert await raw(path, b'{"method": "echo"}') == []


async def test_an_endless_line_is_cut_off(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"x" * (MAX_REQUEST_BYTES + 10))
    assert "longer than" in json.loads(await reader.readline())["error"]
    with suppress(ConnectionResetError):  # closed with some of the line unread
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(GrapevineError, match="bytes long"):
        await ask(path, "echo", {"text": "x" * MAX_REQUEST_BYTES})
    with pytest.raises(GrapevineError, match="ask for less"):
        await ask(path, "large")


async def test_a_slow_answer_ends_in_an_error_and_hinders_nobody(path: Path) -> None:
    with pytest.raises(NoAnswerError, match=r"no answer to 'sleep' within 0\.1 s"):
        await ask(path, "sleep", timeout_s=0.1)
    assert await ask(path, "echo") == {}


async def test_only_the_owner_can_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240 - a test may block


async def test_without_a_service_the_command_says_so(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with pytest.raises(NoServiceError, match="no agent is running"):
        call(path, "status")
    async with ControlServer(path, answer):
        pass
    assert not path.exists()


async def test_a_service_that_hangs_up_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NoAnswerError, match="hung up"):
            call(path, "status")
        thread.join()


async def test_stopping_cuts_conversations_short(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    server = ControlServer(path, answer)
    await server.start()
    asking = asyncio.create_task(ask(path, "sleep", timeout_s=30.0))
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"method": "echo"}\n')
    await reader.readline()
    await asyncio.wait_for(server.stop(), timeout=5.0)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises((NoAnswerError, NoServiceError)):
        await asyncio.wait_for(asking, timeout=5.0)


async def test_what_a_killed_service_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    program = "import os, signal, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n"
    program += "os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)  # noqa: ASYNC221 - nothing runs yet
    assert path.is_socket()
    async with ControlServer(path, answer):
        assert await ask(path, "echo") == {}


async def test_a_living_service_keeps_its_socket(path: Path) -> None:
    with pytest.raises(StoreError, match="another agent answers here"):
        await ControlServer(path, answer).start()
    assert await ask(path, "echo") == {}


async def test_a_file_in_the_way_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("mine")
    with pytest.raises(StoreError, match="no socket"):
        await ControlServer(path, answer).start()
    assert path.read_text() == "mine"
    with pytest.raises(StoreError, match="cannot be made"):
        await ControlServer(tmp_path / "nowhere" / "agent.sock", answer).start()


async def test_a_path_too_long_for_a_socket_works_nonetheless(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    path = folder / "agent.sock"
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the count is all
    async with ControlServer(path, answer):
        assert await ask(path, "echo") == {}
        with pytest.raises(StoreError, match="another agent answers here"):
            await ControlServer(path, answer).start()
    assert not path.exists()
    with pytest.raises(NoServiceError):
        await ask(path, "echo")
    assert len(os.listdir("/proc/self/fd")) <= open_before  # noqa: PTH208


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with ControlServer(path, answer):
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(path))
            text = json.dumps({"method": "echo", "params": {"text": "x" * 100_000}}).encode() + b"\n"
            loop = asyncio.get_running_loop()

            async def send_on_and_on() -> None:
                while True:
                    await loop.sock_sendall(client, text)

            with pytest.raises(TimeoutError):  # its replies are not read, so in the end its requests are not either
                await asyncio.wait_for(send_on_and_on(), timeout=0.5)
            assert await ask(path, "echo") == {}
            started = loop.time()
    assert loop.time() - started < 5.0


async def test_connections_made_while_stopping_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    server = ControlServer(path, answer)
    await server.start()
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(path))
        await asyncio.sleep(0)  # accepted, but its conversation has not begun
        late.connect(str(path))
        await server.stop()
        for client in (early, late):
            client.settimeout(5.0)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_sockets_of_any_name_are_passed_over_when_an_agent_is_looked_for(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    line = b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 "
    table.write_bytes(b"".join(line + name + b"\n" for name in (b"/tmp/\xff.sock", b"/tmp/\xff/agent.sock", b"@\x00")))
    assert agent_of(tmp_path / "agent.toml", "nobody", table=table) is None


_LISTENS = """
import json, os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
if sys.argv[3:]:
    os.setuid(int(sys.argv[3]))
listening.listen()
print("listens", flush=True)
while True:
    with listening.accept()[0] as client, client.makefile("rwb") as lines:
        lines.readline()
        lines.write(json.dumps({"ok": True, "result": {"config": sys.argv[2]}}).encode() + b"\\n")
"""


@pytest.mark.parametrize("as_whom", ["ours", "a stranger's"])
def test_an_agent_is_who_listens_and_not_who_owns_the_path(tmp_path: Path, as_whom: str) -> None:
    stranger = as_whom != "ours"
    if stranger and os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    path, config, table = tmp_path / "agent.sock", tmp_path / "agent.toml", tmp_path / "unix"
    table.write_bytes(b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 " + os.fsencode(path) + b"\n")
    command = [sys.executable, "-c", _LISTENS, str(path), str(config), *(["54321"] if stranger else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        listener.stdout.readline()
        try:
            assert path.stat().st_uid == os.geteuid(), "the path says that it is ours, in either case"
            assert agent_of(config, "nobody", table=table) == (None if stranger else path)
        finally:
            listener.kill()
