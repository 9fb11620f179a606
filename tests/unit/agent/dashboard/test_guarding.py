"""Who may ask the dashboard, and what every answer carries: over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.unit.agent.dashboard.browsing import act, address_of, ask, looking, replayed

from grapevine_agent.dashboard import connections
from grapevine_agent.dashboard.hub import MOST_STREAMS
from grapevine_agent.dashboard.serving import MOST_CONNECTIONS, Dashboard
from grapevine_proto.errors import GrapevineError

pytestmark = pytest.mark.asyncio(loop_scope="module")

Headers = Mapping[str, str | None]
done: list[dict[str, Any]] = []


def heal(params: Mapping[str, Any]) -> str:
    if "fail" in params:
        raise GrapevineError("nothing is cut; cut something first")
    done.append(dict(params))
    return "all is whole again"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dashboard]:
    actions = {
        "heal": heal,
        "kill": lambda params: f"killed {params['peer']}",
        "partition": lambda params: " | ".join(", ".join(side) for side in params["sides"]),
    }
    async with replayed(tmp_path_factory.mktemp("made"), actions=actions) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def dashboard(one_for_all: Dashboard) -> Dashboard:
    done.clear()
    return one_for_all


@pytest.mark.parametrize(
    "target", ["/", "/api/state", "/api/peers/x", "/static/nothing.js", "/nowhere", "/../etc/passwd"]
)
async def test_every_answer_tells_the_browser_to_run_and_load_nothing_of_others(
    dashboard: Dashboard, target: str
) -> None:
    headers = (await ask(dashboard, target)).headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers
    assert headers["cache-control"] == ("no-cache" if target == "/" else "no-store")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("localhost:9999", 200),  # through a tunnel
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example:{port}", 403),
        ("192.168.1.4:{port}", 403),
        ("localhost@evil.example", 403),
        ("localhost/evil", 403),
        ("localhost:port", 403),
        ("", 403),
    ],
)
async def test_only_a_host_that_means_this_machine_is_answered(dashboard: Dashboard, host: str, status: int) -> None:
    _, port = address_of(dashboard)
    for target in ("/", "/api/state"):
        answer = await ask(dashboard, target, headers={"Host": host.format(port=port)})
        assert answer.status == status
    assert (await act(dashboard, "heal", headers={"Host": "evil.example"})).status == 403
    assert not done


async def test_who_listens_for_others_is_asked_by_number_and_by_its_own_name_alone(tmp_path: Path) -> None:
    async with replayed(tmp_path, host="0.0.0.0") as dashboard:
        for host, status in (("192.168.1.4:1", 200), ("[fe80::1]", 200), ("localhost", 200), ("evil.example", 403)):
            assert (await ask(dashboard, "/api/state", headers={"Host": host})).status == status


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://127.0.0.1", "http://["]
)
async def test_a_page_of_another_origin_reads_nothing_and_does_nothing(dashboard: Dashboard, origin: str) -> None:
    assert (await ask(dashboard, "/api/state", headers={"Origin": origin})).status == 403
    assert (await act(dashboard, "heal", headers={"Origin": origin})).status == 403
    assert not done


@pytest.mark.parametrize(
    ("target", "site", "mode", "dest", "status"),
    [
        ("/api/stream", "cross-site", "no-cors", "image", 403),
        ("/api/state", "same-site", "no-cors", "script", 403),
        ("/api/state", "cross-site", "navigate", "document", 403),
        ("/", "cross-site", "navigate", "iframe", 403),
        ("/", "cross-site", "navigate", "document", 200),
        ("/", "none", "navigate", "document", 200),
        ("/api/state", "same-origin", "cors", "empty", 200),
    ],
)
async def test_what_another_page_embeds_is_not_given_and_a_link_to_the_page_is(
    dashboard: Dashboard, target: str, site: str, mode: str, dest: str, status: int
) -> None:
    said = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert (await ask(dashboard, target, headers=said)).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer guessed"}, 401),
        ({"Authorization": "Bearer gu\u00eb\u00df"}, 401),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
    ],
)
async def test_an_action_needs_the_token_the_origin_and_a_type_that_no_form_can_send(
    dashboard: Dashboard, headers: Headers, status: int
) -> None:
    answer = await act(dashboard, "heal", headers=headers)
    assert (answer.status, answer.json["ok"]) == (status, False)
    assert answer.json["error"]
    assert not done


async def test_an_action_is_done_for_the_own_page_with_the_token(dashboard: Dashboard) -> None:
    answer = await act(dashboard, "heal", {"peer": "x"})
    assert (answer.status, answer.json) == (200, {"ok": True, "text": "all is whole again"})
    assert done == [{"peer": "x"}]
    state = (await ask(dashboard, "/api/state")).json
    assert state["source"]["actions"] == ["heal", "kill", "partition"]
    peer = next(each for each in state["peers"] if each["name"] == "device 0001")
    assert (await act(dashboard, "kill", {"peer": peer["id"]})).json["text"] == "killed device 0001"


@pytest.mark.parametrize(
    ("name", "params", "status", "said"),
    [
        ("heal", {"fail": True}, 409, "nothing is cut; cut something first"),
        ("kill", {}, 400, "peer"),
        ("kill", {"peer": ""}, 400, 'kill needs "peer"'),
        ("kill", {"peer": 5}, 400, '"peer" is text'),
        ("approve", {"task": "x"}, 404, "heal, kill, partition"),
        ("heal", [1], 400, "one JSON object"),
        ("heal", b"{", 400, "one JSON object"),
        ("heal", b"[" * 4_000, 400, "one JSON object"),
        ("heal", b"x" * 5_000, 413, "4096 bytes"),
    ],
)
async def test_an_action_that_is_refused_says_why(
    dashboard: Dashboard, name: str, params: object, status: int, said: str
) -> None:
    answer = await act(dashboard, name, params)
    assert answer.status == status
    assert said in answer.json["error"]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"sides": []},
        {"sides": "ab"},
        {"sides": [["a"]]},
        {"sides": [["a"], []]},
        {"sides": [["a"], "b"]},
        {"sides": [["a"], [5]]},
        {"sides": [["a"], ["b"], ["c"]]},
        {"groups": [["a"]], "sides": [["a"], ["b"]]},
    ],
)
async def test_a_partition_that_has_not_two_sides_is_no_partition(dashboard: Dashboard, params: object) -> None:
    answer = await act(dashboard, "partition", params)
    assert (answer.status, answer.json["ok"]) == (400, False)
    assert answer.json["error"].startswith('partition needs "sides": two lists')


@pytest.mark.parametrize("word", ["sides", "groups"])
async def test_a_partition_is_asked_for_by_the_names_of_those_whose_ids_are_known(
    dashboard: Dashboard, word: str
) -> None:
    peers = (await ask(dashboard, "/api/state")).json["peers"]
    peer = next(each for each in peers if each["name"] == "device 0001")
    answer = await act(dashboard, "partition", {word: [[peer["id"], "home"], ["field"]]})
    assert answer.json == {"ok": True, "text": "device 0001, home | field"}


async def test_the_token_can_be_tried_without_doing_anything(dashboard: Dashboard) -> None:
    right = {"Authorization": f"Bearer {dashboard.token}"}
    assert (await ask(dashboard, "/api/check", headers=right)).status == 204
    assert (await ask(dashboard, "/api/check")).status == 401
    assert len(dashboard.token) >= 32
    assert dashboard.url_for_actions == f"{dashboard.url}#token={dashboard.token}"


async def test_no_other_method_reaches_an_action(dashboard: Dashboard) -> None:
    for method, target in (
        ("GET", "/api/actions/heal"),
        ("POST", "/api/state"),
        ("DELETE", "/"),
        ("OPTIONS", "/api/state"),
    ):
        answer = await ask(dashboard, target, method=method)
        assert answer.status == 405
        assert "access-control-allow-origin" not in answer.headers
    assert not done


async def test_nothing_outside_the_static_folder_is_served(dashboard: Dashboard) -> None:
    for target in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/",
    ):
        assert (await ask(dashboard, target)).status == 404
    assert (await ask(dashboard, f"/{'x' * 3_000}")).status == 403


async def test_a_request_without_end_is_not_kept(dashboard: Dashboard) -> None:
    reader, writer = await asyncio.open_connection(*address_of(dashboard))
    writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 400")
    writer.close()


async def test_connections_on_which_nobody_asks_or_asks_by_bits_make_room_for_others(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 4.0)  # a busy machine needs a while for so many connections
    async with contextlib.AsyncExitStack() as stack:
        silent = []
        for _ in range(MOST_CONNECTIONS):
            silent.append(await asyncio.open_connection(*address_of(dashboard)))
            stack.callback(silent[-1][1].close)
        assert (await ask(dashboard, "/api/state")).status == 503
        reader, writer = silent[0]
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(20):
            while not reader.at_eof():
                writer.write(b"X: y\r\n")
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.2)
            while (await ask(dashboard, "/api/state")).status != 200:
                await asyncio.sleep(0.02)


async def test_a_page_that_reads_nothing_loses_its_stream_and_one_that_reads_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.3)
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    async with replayed(tmp_path) as dashboard, looking(dashboard) as events:
        await anext(events)
        _, writer = await asyncio.open_connection(*address_of(dashboard), limit=1)
        writer.write(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            while dashboard.hub.num_streams < 2:
                await asyncio.sleep(0.01)
            while dashboard.hub.num_streams == 2:
                line = {"event": "failed", "peer": "a", "level": "warning", "text": "x" * 400, "at_ms": 1}
                for _ in range(200):
                    dashboard.overview.tell(line, 1)
                dashboard.hub.flush()
                await anext(events)
        assert dashboard.hub.num_streams == 1
        writer.close()


async def test_so_many_may_look_and_the_next_one_is_told_to_come_again(dashboard: Dashboard) -> None:
    streams = [looking(dashboard) for _ in range(MOST_STREAMS)]
    for stream in streams:
        await stream.__aenter__()
    answer = await ask(dashboard, "/api/stream")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    await streams.pop().__aexit__(None, None, None)
    async with asyncio.timeout(10):
        while (await ask(dashboard, "/api/check")).status != 401 or dashboard.hub.num_streams == MOST_STREAMS:
            await asyncio.sleep(0.02)
    async with looking(dashboard) as events:
        kind, _ = await anext(events)
        assert kind == "state"
    for stream in streams:
        await stream.__aexit__(None, None, None)


async def test_the_page_asks_nobody_else_for_anything() -> None:
    from grapevine_agent.dashboard.app import STATIC

    for path in STATIC.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", text), path
