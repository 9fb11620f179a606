"""What a running agent answers to requests as they come over the socket, whatever command or program sent them."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from tests.swarm.digits import built_digits

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks.entry import TaskEntry
from grapevine_agent.line import _needs_all
from grapevine_agent.requests.dispatch import Requests
from grapevine_agent.service import clock
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.shell import AgentService
from grapevine_proto.errors import GrapevineError, RequestError, StoreError, TaskError
from grapevine_proto.manifest import ManifestBrief
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_tasks.built import write_built

ADA, MALLORY = "a" * 20, "m" * 20
DIGITS, OTHER = "d8c9fad13b84" + "0" * 52, "77" + "1" * 62
ACTS = {"consent": {"joined": True}, "review": {"approved": True}, "revoke": {}, "retract": {}}
LOOKS: dict[str, dict[str, Any]] = {"manifest": {}, "task": {}, "readings": {}, "model": {}, "records": {}}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[AgentService]:
    """A service that was put together and not started: nothing is sent anywhere."""
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path / "state"}"\nconsent = "never"\n')
    with assembled(load_config(path, {})) as service:
        add(service, DIGITS, "digits", ADA)
        yield service


def add(service: AgentService, id_: str, name: str, publisher: str) -> None:
    manifest = replace(built_digits().draft, name=name, publisher=publisher, version=3)
    service.core.book.entries[id_] = TaskEntry(
        id=id_, brief=ManifestBrief.of(manifest), encoded=encode_manifest(manifest), opened=service.core.book.opened
    )


async def ask(service: AgentService, method: str, **params: Any) -> Any:
    return await Requests(service).answer({"method": method, "params": params})


def num_signed(service: AgentService) -> int:
    return len(service.attachments[0].outbox)


@pytest.mark.parametrize(("method", "params"), [*ACTS.items(), *LOOKS.items()])
@pytest.mark.parametrize("task", ["", "  ", "\u200b", "d", "d8"])
async def test_no_request_takes_the_only_task_for_one_that_was_not_named(
    service: AgentService, method: str, params: dict[str, Any], task: str
) -> None:
    with pytest.raises(RequestError, match=r"no task is named|too short"):
        await ask(service, method, task=task, **params)
    assert num_signed(service) == 0
    assert service.core.book.consents == {}


@pytest.mark.parametrize(("method", "params"), ACTS.items())
@pytest.mark.parametrize("task", [DIGITS[:4], DIGITS[:7]])
async def test_what_signs_or_decides_wants_eight_characters(
    service: AgentService, method: str, params: dict[str, Any], task: str
) -> None:
    with pytest.raises(RequestError, match="at least 8 characters"):
        await ask(service, method, task=task, **params)
    assert num_signed(service) == 0
    assert service.core.book.consents == {}


@pytest.mark.parametrize(("method", "params"), [*ACTS.items(), *LOOKS.items()])
async def test_a_name_that_a_stranger_took_as_well_means_neither(
    service: AgentService, method: str, params: dict[str, Any]
) -> None:
    add(service, OTHER, "digits", MALLORY)
    with pytest.raises(RequestError) as caught:
        await ask(service, method, task="digits", **params)
    assert all(part in str(caught.value) for part in (DIGITS, OTHER, ADA, MALLORY))
    assert num_signed(service) == 0


async def test_a_parent_is_found_by_the_same_rule(service: AgentService, tmp_path: Path) -> None:
    for parent, says in (("", "no task is named"), ("d8c9", "at least 8"), ("77" * 4, "no task")):
        with pytest.raises(GrapevineError, match=says):
            await ask(service, "revise", folder=str(tmp_path), parent=parent, servers=[])


async def test_a_verdict_says_what_was_signed_by_whom_and_for_how_long(service: AgentService) -> None:
    own = service.identity.peer_id
    told = await ask(service, "review", task=DIGITS[:8], approved=True, reason="looked at", days=2)
    assert {key: told[key] for key in ("task", "name", "version", "publisher", "reviewer", "approved", "reason")} == {
        "task": DIGITS,
        "name": "digits",
        "version": 3,
        "publisher": ADA,
        "reviewer": own,
        "approved": True,
        "reason": "looked at",
    }
    assert told["valid_until_ms"] > 0
    assert num_signed(service) == 1
    joined = await ask(service, "consent", task="digits", joined=True)
    assert (joined["task"], joined["publisher"], joined["version"], joined["peer"]) == (DIGITS, ADA, 3, own)


async def test_the_owners_word_says_when_it_is_not_on_disk(
    service: AgentService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ask(service, "consent", task="digits", joined=True))["not_saved"] == ""

    def refuse(*_: object) -> None:
        raise StoreError("grapevine.db: cannot be written") from OSError(28, "No space left on device")

    monkeypatch.setattr(service.store, "set_membership", refuse)
    assert (await ask(service, "consent", task="digits", joined=False))["not_saved"] == "No space left on device"
    monkeypatch.undo()
    assert service.store.memberships() == {DIGITS: "joined"}


async def test_a_verdict_on_a_task_with_a_look_alike_says_so(service: AgentService) -> None:
    add(service, OTHER, "dіgits", MALLORY)  # the і is Cyrillic
    told = await ask(service, "review", task=DIGITS, approved=True)
    assert OTHER in told["note"]
    assert MALLORY in told["note"]


@pytest.mark.parametrize("days", [math.nan, math.inf, -math.inf, 0, -1, 1e9, 0.009, True, "7", None])
async def test_a_verdict_holds_for_days_that_there_are(service: AgentService, days: Any) -> None:
    with pytest.raises(RequestError, match="days"):
        await ask(service, "review", task=DIGITS, approved=True, days=days)
    assert num_signed(service) == 0


@pytest.mark.parametrize("reason", ["", " \t"])
async def test_a_rejection_says_why(service: AgentService, reason: str) -> None:
    with pytest.raises(RequestError, match="reason"):
        await ask(service, "review", task=DIGITS, approved=False, reason=reason)


@pytest.mark.parametrize("method", ["review", "revoke"])
@pytest.mark.parametrize("reason", ["x" * 501, "\udcff"])
async def test_a_reason_that_nobody_would_take_is_not_sent(service: AgentService, method: str, reason: str) -> None:
    with pytest.raises(RequestError, match="reason"):
        await ask(service, method, task=DIGITS, reason=reason, **({"approved": True} if method == "review" else {}))
    assert num_signed(service) == 0


@pytest.mark.parametrize(
    ("method", "params"), [("review", {"approved": True}), ("revoke", {}), ("publish", {"folder": "", "servers": []})]
)
async def test_nothing_is_signed_by_a_clock_that_nobody_has_set(
    service: AgentService, method: str, params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "publish":
        write_built(built_digits(), tmp_path, tmp_path / "task")
        params = {**params, "folder": str(tmp_path / "task")}
    else:
        params = {**params, "task": DIGITS}
    monkeypatch.setattr(clock, "now", lambda: Moment(1.0, 86_400_000))
    with pytest.raises(TaskError, match=r"clock says 1970-01-02 00:00 UTC.*set the clock"):
        await ask(service, method, **params)
    assert num_signed(service) == 0


@pytest.mark.parametrize("approved", ["no", 0, 1, None, [], "false"])
async def test_only_true_approves(service: AgentService, approved: Any) -> None:
    with pytest.raises(RequestError, match=r"approved = .*: must be true or false"):
        await ask(service, "review", task=DIGITS, approved=approved)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"peer": ""}, "is no peer id"),
        ({"peer": "a/b"}, "is no peer id"),
        ({"peer": "+"}, "is no peer id"),
        ({"peer": "kitchen"}, "is no peer id"),
        ({"cluster": -1}, "cluster = -1"),
        ({"cluster": 2**40}, "cluster"),
        ({"cluster": 0.5}, "must be a whole number"),
        ({"within_s": 0}, "within_s = 0"),
        ({"within_s": math.nan}, "must be a finite number"),
    ],
)
async def test_a_model_is_asked_of_a_whole_peer_id(service: AgentService, params: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        await ask(service, "model", task=DIGITS, **params)


@pytest.mark.parametrize("server", ["", "kitchen", "#", "a" * 19])
async def test_only_whole_peer_ids_become_servers(service: AgentService, tmp_path: Path, server: str) -> None:
    with pytest.raises(RequestError, match="is no peer id"):
        await ask(service, "publish", folder=str(tmp_path), servers=[server])


async def test_what_was_published_stays_the_same_task_until_it_changes_or_another_one_is_wanted(
    service: AgentService, tmp_path: Path
) -> None:
    folder = tmp_path / "task"
    write_built(built_digits(), tmp_path, folder)
    publish = partial(ask, service, "publish", folder=str(folder), servers=[])
    first = await publish()
    assert not first["again"]
    (announced,) = (each.message.sequence for each in service.core.records)
    again = await publish()
    assert (again["task"], again["again"]) == (first["task"], True)
    (since,) = (each.message.sequence for each in service.core.records)
    assert since > announced, "it is announced again"
    assert (await publish(servers=["a" * 20]))["task"] != first["task"]
    another = await publish(another=True)
    assert another["task"] != first["task"]
    assert not another["again"]
    assert (await publish())["task"] == another["task"], "the newest counts"
    for task in {first["task"], another["task"]}:
        await ask(service, "retract", task=task)
    assert not (await publish())["again"], "what was taken back does not come again"


@pytest.mark.parametrize("folder", ["", " ", ".", "task"])
async def test_a_folder_is_a_whole_path(service: AgentService, folder: str) -> None:
    with pytest.raises(RequestError, match="folder"):
        await ask(service, "publish", folder=folder, servers=[])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"action": "forget", "peer": ADA},
        {"action": "add"},
        {"action": "add", "peer": ""},
        {"action": "add", "peer": ADA[:12]},
        {"action": "add", "peer": ADA, "relation": ""},
        {"action": "add", "peer": ADA, "roles": [""]},
        {"action": "add", "peer": ADA, "name": 3},
        {"action": "remove", "peer": " "},
        {"action": "remove", "peer": ADA[:5]},
        {"action": "remove", "peer": ADA, "relation": ""},
        {"action": "remove", "peer": ADA, "relation": "friend"},
    ],
)
async def test_a_change_of_trust_that_is_none_changes_nothing(service: AgentService, change: dict[str, Any]) -> None:
    await ask(service, "trust", change={"action": "add", "peer": ADA, "name": "Ada"})
    before = await ask(service, "trust")
    with pytest.raises(RequestError):
        await ask(service, "trust", change=change)
    assert await ask(service, "trust") == before


async def test_a_peer_is_taken_off_the_list_by_its_beginning_or_by_the_owners_name_for_it(
    service: AgentService,
) -> None:
    for named in (ADA[:8], "Ada"):
        await ask(service, "trust", change={"action": "add", "peer": ADA, "name": "Ada"})
        told = await ask(service, "trust", change={"action": "remove", "peer": named})
        assert told["peer"] == ADA
        assert told["peers"] == []


async def test_every_parameter_of_every_method_is_held_against_its_type(service: AgentService) -> None:
    """Introspected, so that a method that is added is held too."""
    requests = Requests(service)
    wrong: dict[Any, Any] = {str: 7, bool: "yes", int: 1.5, float: math.nan, float | None: math.nan, int | None: 1.5}
    num_held = 0
    for name, method in (requests._looks | requests._acts).items():
        hints = get_type_hints(method)
        good = {str: "x" * 9, bool: True, int: 0, float: 1.0, list[str]: []}
        needed = {
            key: good[hints[key]]
            for key, parameter in inspect.signature(method).parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        for key in inspect.signature(method).parameters:
            with pytest.raises(RequestError, match=f"{name}: {key} = "):
                await requests.answer({"method": name, "params": needed | {key: wrong.get(hints[key], 7)}})
            num_held += 1
        for key in needed:
            with pytest.raises(RequestError, match=f"{name}: {key} is missing"):
                await requests.answer({"method": name, "params": {k: v for k, v in needed.items() if k != key}})
        with pytest.raises(RequestError, match="unknown parameter 'tsak'"):
            await requests.answer({"method": name, "params": needed | {"tsak": "x"}})
    assert num_held > 20
    assert num_signed(service) == 0


async def test_a_task_that_is_not_known_is_told_apart_from_a_word_that_is_wrong(service: AgentService) -> None:
    with pytest.raises(TaskError, match="did you mean"):
        await ask(service, "consent", task="digitz", joined=True)


@pytest.mark.parametrize("method", ["review", "consent", "retract", "task", "readings", "records", "model", "manifest"])
def test_a_command_that_connects_for_itself_looks_up_names_only_once_all_tasks_are_here(method: str) -> None:
    for word in ("digits", DIGITS[:12], DIGITS[:63], ""):
        assert _needs_all(method, {"task": word})
    assert _needs_all("revise", {"parent": "digits"})
    assert _needs_all(method, {"task": DIGITS}) == (method == "records")  # the reviews are asked for as well
