"""Applications over a real broker: applied, reviewed, placed on one of two agents, explained, and deleted again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.containers import IMAGE, FileEngine, file_engine
from tests.e2e.agents import agent, agents

from grapevine_agent.cli.app_commands import _explained, _table
from grapevine_agent.intent.reading import read_applications, with_tasks
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service.shell import AgentService
from grapevine_broker import start_broker
from grapevine_lab.overlay.here import until
from grapevine_proto.application_codec import encode_application
from grapevine_proto.errors import TaskError

ROOT = "applications"
APPLICATION = f"""\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: lakeside
spec:
  components:
    - name: viewer
      type: webservice
      properties: {{image: "{IMAGE}", port: 8080, memory: 64Mi, cpu: "0.25"}}
  policies:
    - name: at-the-lake
      type: topology
      properties: {{sites: [lake]}}
"""

pytestmark = [pytest.mark.mosquitto]


def engine(folder: Path) -> str:
    """`[engine]` with a command of its own."""
    command = file_engine(folder).command
    return f'[engine]\nenabled = true\ncommand = "{command}"\nallow_images = ["{IMAGE}"]\nallow_ports = [8080]\n'


def containers(folder: Path) -> list[str]:
    return FileEngine(folder / "engine").running()


async def ask(service: AgentService, method: str, **params: Any) -> Any:
    return await Requests(service).answer({"method": method, "params": params})


async def apply(service: AgentService, text: str = APPLICATION) -> dict[str, Any]:
    draft = read_applications(text, "app.yaml")[0]
    found = await ask(service, "resolve", tasks=list(draft.tasks))
    spec = encode_application(with_tasks(draft, found["peer"], found["tasks"]))
    result: dict[str, Any] = await ask(service, "apply", spec=spec.hex())
    return result


async def here(service: AgentService) -> str:
    try:
        result = await ask(service, "explain", name="lakeside")
    except TaskError:
        return "not known"
    return str(result["components"][0]["here"]["state"])


async def test_an_application_from_its_yaml_to_a_container_and_its_end(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker:
        urls = [broker.url]
        async with agent(tmp_path / "engineer", urls, ROOT) as engineer:
            trust = f'[review]\napprovals = 1\ntrusted = ["{engineer.identity.peer_id}"]\n'
            async with agents(
                agent(tmp_path / "author", urls, ROOT),
                agent(tmp_path / "a", urls, ROOT, own='site = "lake"', extra=engine(tmp_path / "a/engine") + trust),
                agent(tmp_path / "b", urls, ROOT, own='site = "lake"', extra=engine(tmp_path / "b/engine") + trust),
                agent(tmp_path / "c", urls, ROOT, own='site = "hill"', extra=engine(tmp_path / "c/engine") + trust),
            ) as (author, ada, bob, carl):
                result = await apply(author)
                assert result["did"] == "created"
                assert (await apply(author))["did"] == "unchanged"
                await until(lambda: result["application"] in engineer.core.apps.book.by_id)
                await until(lambda: all(result["application"] in e.core.apps.book.by_id for e in (ada, bob, carl)))
                assert await here(ada) == "not approved"
                shown = await ask(engineer, "records", task="lakeside")  # as `review show` asks for it
                assert shown["application"]["spec"]["components"][0]["properties"]["image"] == IMAGE
                await ask(engineer, "review", task="lakeside", approved=True)

                def folders() -> list[str]:
                    return [name for name in "abc" if containers(tmp_path / name)]

                await until(lambda: len(folders()) == 1)
                running, idle = (ada, bob) if folders() == ["a"] else (bob, ada)
                await until(lambda: running.core.apps.running() != ())
                assert await here(running) == "running"
                assert await here(idle) == "placed elsewhere"
                assert await here(carl) == "does not qualify"
                known = idle.core.members.peers[running.identity.peer_id]
                await until(lambda: known.announcement.running != ())
                listed = await ask(idle, "apps")
                assert "viewer      webservice   1/1     no" in _table(listed["apps"], listed["peer"], is_wide=True)
                text = _explained(await ask(carl, "explain", name="lakeside"))
                assert "site in (lake): it is 'hill'" in text
                called = " ".join(FileEngine(tmp_path / folders()[0] / "engine").calls())
                for limit in ("--cap-drop ALL", "--read-only", "--memory 64m", "--cpus 0.25", "no-new-privileges"):
                    assert limit in called
                with pytest.raises(TaskError, match="who alone can delete it"):
                    await ask(ada, "delete", name="lakeside")
                await ask(author, "delete", name="lakeside")
                await until(lambda: folders() == [])
                await until(lambda: not any(each.core.apps.book.entries for each in (ada, bob, carl)))
                assert await here(ada) == "not known"


async def test_it_is_known_after_a_restart_and_what_ran_is_removed_with_the_service(tmp_path: Path) -> None:
    with start_broker("mosquitto") as broker:
        urls = [broker.url]
        async with agent(tmp_path / "author", urls, ROOT) as author:
            extra = engine(tmp_path / "a/engine") + "[review]\napprovals = 0\n"
            async with agent(tmp_path / "a", urls, ROOT, own='site = "lake"', extra=extra) as ada:
                await apply(author)
                await until(lambda: bool(containers(tmp_path / "a")))
                assert ada.core.apps.book.entries
            assert containers(tmp_path / "a") == []
        for left in ("created.left-behind", "running.left-behind"):  # as a kill would leave it
            (tmp_path / "a/engine" / left).touch()
        async with agent(tmp_path / "a", urls, ROOT, own='site = "lake"', extra=extra) as ada:
            assert [entry.name for entry in ada.core.apps.book.entries.values()] == ["lakeside"]
            await until(lambda: len(containers(tmp_path / "a")) == 1 and "viewer" in containers(tmp_path / "a")[0])


async def test_an_engine_that_hangs_keeps_nothing_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_agent.service.containers.END_S", 0.5)
    done: list[str] = []
    with start_broker("mosquitto") as broker:
        extra = engine(tmp_path / "a/engine") + "[review]\napprovals = 0\n"
        async with agent(tmp_path / "a", [broker.url], ROOT, own='site = "lake"', extra=extra) as ada:
            await apply(ada)
            await until(lambda: bool(containers(tmp_path / "a")))
            assert ada.engine is not None
            finish, end = ada._saver.finish, ada.engine.end

            async def finished() -> None:
                await finish()
                done.append("saved")

            async def ended() -> None:
                began_s = time.monotonic()
                await end()
                done.append("ended" if time.monotonic() < began_s + 10.0 else "ended late")

            monkeypatch.setattr(ada._saver, "finish", finished)
            monkeypatch.setattr(ada.engine, "end", ended)
            FileEngine(tmp_path / "a/engine").does("hangs")
        assert done == ["saved", "ended"]
