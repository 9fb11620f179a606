"""Grapevine from Python, for model engineers: the commands of `grapevine task` as methods.

    from grapevine_agent.api import Grapevine

    with Grapevine() as g:
        task = g.publish(g.build("digits"))
        for reading in g.watch(task, for_s=60):
            print(reading["peer"], reading["round"], reading["metric"])
        model = g.pull(task)
        model.save(Path("digits.safetensors"))

A `Grapevine` talks to the agent that runs on this machine; without one it connects by itself for as long
as the `with` block lasts. All errors are `GrapevineError`s. See docs/api.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from types import TracebackType
from typing import Any, Self, TypeAlias

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.line import Line, open_line
from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.requests.naming import find_peer
from grapevine_agent.requests.parameters import needed, within
from grapevine_agent.requests.pulled_model import PulledModel
from grapevine_proto import distribution
from grapevine_proto.errors import TaskError
from grapevine_tasks.built import BuiltTask

POLL_S = 0.5
PERSONAL_STRATEGIES = tuple(name for name, strategy in STRATEGIES.items() if strategy.personal)
CLUSTERED_STRATEGIES = ("cfl", "flic")
LONGEST_FETCH_S = 30.0
LONGEST_S = 1e9  # that can be waited for: NaN and infinity are mistakes

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A folder that was built, ready to be published."""

    folder: Path
    task: BuiltTask


@dataclass(frozen=True, kw_only=True)
class Published:
    """A task that was announced. `id` names it everywhere."""

    id: str
    name: str
    answer: dict[str, Any]


Task: TypeAlias = Published | str  # a task's id, the beginning of it, or its name


def build(folder: Path | str) -> Built:
    """Turn a folder's model into a code-free program. Raises TaskError with what is wrong with it."""
    try:
        from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415 - it needs torch
    except ImportError as error:
        raise TaskError(f"building needs PyTorch ({error}): {distribution.to_add_extra('train')}") from None
    return Built(folder=Path(folder), task=build_task(Path(folder), check_merging=check_merge_plan))


class Grapevine:
    """See the module's docstring.

    Args:
        config: A configuration, the path of one, or None for the one that the command would find.
        tell: Given one line of text whenever there is something to wait for.
    """

    def __init__(self, config: Config | Path | str | None = None, *, tell: Tell = lambda _text: None) -> None:
        self._config = (
            config if isinstance(config, Config) else load_config(Path(config) if config else None, os.environ)
        )
        self._tell = tell
        self._open = ExitStack()
        self._line: Line | None = None

    def __enter__(self) -> Self:
        self._line = self._open.enter_context(open_line(self._config, tell=self._tell))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._line = None
        self._open.close()

    @property
    def line(self) -> Line:
        """The open line to the service. Raises ValueError outside of a `with` block."""
        if self._line is None:
            raise ValueError("a Grapevine is used in a with block: with Grapevine() as g: …")
        return self._line

    # --- publishing -------------------------------------------------------------------------------

    def build(self, folder: Path | str) -> Built:
        """As the function `build`."""
        return build(folder)

    def publish(
        self,
        task: Built | Path | str,
        *,
        servers: Sequence[str] = (),
        another: bool = False,
        wait: bool = True,
        on_announced: Callable[[Published], object] = lambda _published: None,
    ) -> Published:
        """Sign and announce a built task; what was published before and has not changed since, as the same task.

        `another` makes a second task of it all the same.

        With `wait`, and without a running agent, returns when a member has fetched the initial weights;
        `on_announced` is called before that.
        """
        answer = self.line.ask("publish", folder=_folder(task), servers=list(servers), another=another)
        return self._announced(answer, on_announced, wait=wait)

    def revise(
        self,
        task: Built | Path | str,
        *,
        parent: Task,
        reason: str = "",
        servers: Sequence[str] = (),
        fork: bool = False,
        fresh: bool = False,
        wait: bool = True,
        on_announced: Callable[[Published], object] = lambda _published: None,
    ) -> Published:
        """Publish a built task as the next version of `parent`; members that approve it move there with their model.

        With `fresh` they leave it behind, and begin with the initial weights of this version, at age 0.
        """
        answer = self.line.ask(
            "revise",
            folder=_folder(task),
            parent=_id(parent),
            servers=list(servers),
            reason=reason,
            fork=fork,
            fresh=fresh,
        )
        return self._announced(answer, on_announced, wait=wait)

    def retract(self, task: Task, *, reason: str = "") -> dict[str, Any]:
        """Take a task back, for good: its members stop."""
        answer: dict[str, Any] = self.line.ask("retract", task=_id(task), reason=reason)
        return answer

    def _announced(
        self, answer: dict[str, Any], on_announced: Callable[[Published], object], *, wait: bool
    ) -> Published:
        published = Published(id=answer["task"], name=answer["name"], answer=answer)
        on_announced(published)
        if wait and self.line.is_guest and not self._members(published):
            self._tell(
                f"{published.name} is announced as {published.id}; waiting until a first member has fetched "
                "its initial weights from here (--no-wait to leave at once; an agent on this machine would serve them)"
            )
            while not self._members(published):
                time.sleep(POLL_S)
        return published

    def _members(self, published: Published) -> list[str]:
        about = self.line.ask("task", task=published.id)
        return [*about["members"], *about["servers"]]

    # --- watching ---------------------------------------------------------------------------------

    def about(self, task: Task) -> dict[str, Any]:
        """What is known of a task, and who takes part in it now."""
        answer: dict[str, Any] = self.line.ask("task", task=_id(task))
        return answer

    def watch(self, task: Task, *, for_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Readings of a task's members as they come: dicts with peer, round, age, loss, metric and more.

        Ends after `for_s` seconds, or when the task is retracted; else when you leave the loop.
        """
        for readings, about in self.polled(task, for_s=for_s):
            yield from readings
            if about["retracted"]:
                return

    def polled(
        self, task: Task, *, for_s: float | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
        """As `watch`, twice a second: what is new (may be nothing), and what is known of the task."""
        within(for_s if for_s is not None else 0.0, 0.0, LONGEST_S, "for_s")
        wanted = self.about(task)["task"]  # whole, so that nobody who publishes meanwhile can be meant
        after, deadline_s = 0, time.monotonic() + (for_s if for_s is not None else float("inf"))
        while True:
            answer = self.line.ask("readings", task=wanted, after=after)
            after = answer["newest"]
            yield answer["readings"], answer["about"]
            if time.monotonic() >= deadline_s:
                return
            time.sleep(min(POLL_S, max(0.0, deadline_s - time.monotonic())))

    # --- fetching ---------------------------------------------------------------------------------

    def pull(
        self,
        task: Task,
        *,
        peer: str | None = None,
        server: bool = False,
        cluster: int | None = None,
        latest: bool = False,
        within_s: float = 30.0,
    ) -> PulledModel:
        """The best model that a member of a task has had, by its own samples; the newest one where `latest`.

        Of several members' it is one of the most usual age.

        It is that of `peer` if given (a member's or server's id, the beginning of it, or its name), of a server, else
        of one of those that `givers_of` names. A server measures nothing, and gives its newest.
        """
        within(within_s, 0.0, LONGEST_S, "within_s")
        about = self.about(task)
        deadline_s = time.monotonic() + within_s
        waits = False
        while True:
            givers = givers_of(about, peer=peer, server=server, cluster=cluster, latest=latest)
            if givers or time.monotonic() >= deadline_s:
                break
            if not waits:  # said once, however long it takes
                self._tell(f"{about['name']}: {_nobody(about, server=server)}; waiting up to {within_s:.0f} s")
            waits = True
            time.sleep(min(3.0, max(POLL_S, deadline_s - time.monotonic())))
            about = self.about(about["task"])
        if not givers:
            remedy = "pull without --server" if about["members"] else "`grapevine task watch` shows when one comes"
            raise TaskError(
                f"{about['name']} ({about['task'][:12]}, {about['standing']}): {_nobody(about, server=server)} within "
                f"{within_s:.0f} s; {remedy}"
            )
        return PulledModel.of(self._fetch(about, givers, cluster or 0, within_s, latest=latest))

    def _fetch(
        self, about: dict[str, Any], givers: list[str], cluster: int, within_s: float, *, latest: bool
    ) -> dict[str, Any]:
        """The most typical best model; where none was measured a server's; else that with the most contributors.

        Servers come last among the givers, but where the latest is wanted, and are asked where nothing was measured.
        """
        servers = {*about["servers"], *([about["own"]] if about["serves"] else [])}
        answers: list[dict[str, Any]] = []
        trouble: list[str] = []
        for giver in givers:
            if giver in servers and (measured := _measured(answers, latest=latest)):
                return _typical(measured, about)
            self._tell(f"asking {about['names'].get(giver) or giver} ({giver}) for its model of {about['name']}")
            try:
                answers.append(
                    self.line.ask(
                        "model",
                        task=about["task"],
                        peer=giver,
                        cluster=cluster,
                        within_s=min(LONGEST_FETCH_S, max(1.0, within_s / len(givers))),
                        latest=latest,
                    )
                )
            except TaskError as error:
                trouble.append(str(error))
            if answers and answers[-1]["server"]:
                return answers[-1]
        if not answers:
            raise TaskError("; ".join(trouble))
        if measured := _measured(answers, latest=latest):
            return _typical(measured, about)
        return max(answers, key=lambda answer: (len(answer["contributions"]), answer["age"]))


def _measured(answers: list[dict[str, Any]], *, latest: bool) -> list[dict[str, Any]]:
    """The answers that are a member's best model."""
    return [] if latest else [each for each in answers if each["which"] == "best" and each["metric"] is not None]


def _typical(answers: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """Of several members' best models the one whose age is the most usual; of equals that with the best figure.

    Figures of different samples cannot be compared: the lowest is that of who has the easiest ones, or of who lies.
    Ages can: they say for how long it was worth training, and in the middle of them neither has a say.
    """
    ages = {peer: best["age"] for peer, best in about["bests"].items()} | {
        each["peer"]: each["age"] for each in answers
    }
    middle = median_low(ages.values())
    sign = -1.0 if about["higher_is_better"] else 1.0
    return min(answers, key=lambda each: (abs(each["age"] - middle), sign * each["metric"]))


def _nobody(about: dict[str, Any], *, server: bool) -> str:
    """Who is missing; of members that cannot stand in for a server, who is here."""
    if not about["members"]:
        return f"no {'server' if server else 'member or server'} of it is here"
    names = [f"{about['names'][peer]} ({peer})" if about["names"].get(peer) else peer for peer in about["members"]]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"no server of it is here, though members are: {', '.join(names[:MAX_NAMED])}{more}"


MAX_NAMED = 5
MAX_ASKED = 3  # members whose models are compared


def givers_of(
    about: dict[str, Any], *, peer: str | None, server: bool, cluster: int | None, latest: bool = False
) -> list[str]:
    """Whom to ask for a model, in order. Raises TaskError where the engineer must say whose model is meant."""
    name, own = about["name"], about["own"]
    if peer is not None:
        return [find_peer(peer, {p: about["names"].get(p, "") for p in (*about["members"], *about["servers"], own)})]
    servers = [*about["servers"], *([own] if about["serves"] else [])]
    if about["server_strategy"] in CLUSTERED_STRATEGIES and (server or servers) and cluster is None:
        raise TaskError(
            f"{name} is merged by {about['server_strategy']}, whose server holds a model for each cluster: "
            "say which (--cluster 0, 1, …), or whose (--from PEER)"
        )
    if server or cluster is not None:
        return servers
    if about["strategy"] in PERSONAL_STRATEGIES:
        members = ", ".join(about["members"]) or "nobody at present"
        raise TaskError(
            f"{name} is merged by {about['strategy']}, where each member has a model of its own and none stands for "
            f"all: say whose (--from PEER). Members: {members}"
        )
    asked = [*([own] if about["joined"] else []), *_most_typical(about)[:MAX_ASKED]]
    return [*servers, *asked] if latest else [*asked, *servers]


def _most_typical(about: dict[str, Any]) -> list[str]:
    """The members, those first whose best models, by their heartbeats, are of the most usual age: see `_typical`."""
    ages = {peer: best["age"] for peer, best in about["bests"].items()}
    middle = median_low(ages.values()) if ages else 0
    return sorted(about["members"], key=lambda peer: (peer not in ages, abs(ages.get(peer, middle) - middle)))


def _folder(task: Built | Path | str) -> str:
    if isinstance(task, str):
        needed(task, "the folder")  # Path("") would be the one that we stand in
    return str((task.folder if isinstance(task, Built) else Path(task)).absolute())


def _id(task: Task) -> str:
    return task.id if isinstance(task, Published) else task
