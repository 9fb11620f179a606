"""What an engineer, and an owner, may ask about applications: apply, get, explain, delete.

Part of the methods behind the Unix socket (see `requests`). Answers are plain JSON values; an application is shown in
the form of its YAML (`grapevine_agent.intent.showing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.apps import hours
from grapevine_agent.core.apps.app_book import AppEntry
from grapevine_agent.core.apps.matching import announced, of_settings, why_not
from grapevine_agent.core.apps.parts import Part
from grapevine_agent.core.apps.places import MOST_FOLLOWED
from grapevine_agent.core.apps.rendezvous import chosen
from grapevine_agent.core.moment import Moment
from grapevine_agent.intent.showing import as_tree
from grapevine_agent.printable import date_of
from grapevine_agent.requests.dating import dated
from grapevine_agent.requests.listing import listed_applications
from grapevine_agent.requests.naming import find_application, find_task
from grapevine_agent.requests.parameters import checked_reason
from grapevine_agent.service import clock
from grapevine_agent.service.shell import AgentService
from grapevine_proto.application import Component, LearningTask, offer
from grapevine_proto.application_codec import application_id, decode_application
from grapevine_proto.errors import RequestError, TaskError, WireError
from grapevine_proto.records import MAX_APPS_PER_AUTHOR
from grapevine_proto.topics import AppTopic

NO_PLACE = (
    f"{MOST_FOLLOWED} applications have the places that there are; this one gets one before strangers once a trusted "
    "reviewer has spoken of it: grapevine review approve"
)
MAX_SHOWN_PEERS = 50  # of those that do not run a component, and why not


class ApplicationRequests:
    """The methods `resolve`, `apps`, `explain`, `apply` and `delete` of one service."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def looks(self) -> dict[str, Callable[..., Any]]:
        """What changes nothing, by name."""
        return {"resolve": self.resolve, "apps": self.apps, "explain": self.explain, "would_place": self.would_place}

    def acts(self) -> dict[str, Callable[..., Any]]:
        """What changes something, by name."""
        return {"apply": self.apply, "delete": self.delete}

    # --- applying ---------------------------------------------------------------------------------

    def resolve(self, tasks: list[str]) -> dict[str, Any]:
        """Who we are, and which tasks are meant by these words. Raises `RequestError` or `TaskError`."""
        entries = self._service.core.book.entries
        return {
            "peer": self._service.identity.peer_id,
            "tasks": {word: find_task(word, entries, acts=True).id for word in tasks},
        }

    def apply(self, spec: str) -> dict[str, Any]:
        """Sign and publish an application of this peer's, given its bytes in hexadecimal digits."""
        encoded, name = self._checked(spec)
        service, now = self._service, dated()
        core, topic = service.core, AppTopic(service.identity.peer_id, name)
        held = core.apps.book.entries.get(topic)
        own = sum(each.peer == topic.peer for each in core.apps.book.entries)
        if held is None and own >= MAX_APPS_PER_AUTHOR:
            raise TaskError(f"this peer has {own} applications already, and others keep no more: delete one first")
        did = _did(held, encoded)
        if did != "unchanged":
            service.perform(core.apply(encoded, name))
        return {"did": did} | _judged(core, core.apps.book.entries[topic], now)

    def would_place(self, spec: str) -> dict[str, Any]:
        """What became of an application, had it been applied: who qualifies, as they announce themselves."""
        encoded, name = self._checked(spec)
        topic = AppTopic(self._service.identity.peer_id, name)
        held = self._service.core.apps.book.entries.get(topic)
        components = decode_application(encoded).components
        return {
            "did": _did(held, encoded),
            "name": name,
            "application": application_id(encoded),
            "components": [self._would_place(topic, component) for component in components],
        }

    def _checked(self, spec: str) -> tuple[bytes, str]:
        try:
            encoded = bytes.fromhex(spec)
            read = decode_application(encoded)
        except (ValueError, WireError) as error:
            raise RequestError(f"apply: spec is no application: {error}") from None
        if read.author != self._service.identity.peer_id:
            raise RequestError(f"apply: the application is by {read.author}, and this peer signs its own alone")
        return encoded, read.name

    def _would_place(self, topic: AppTopic, component: Component) -> dict[str, Any]:
        core, now = self._service.core, clock.now()
        among = {
            known.id: announced(known.id, known.announcement)
            for known in core.members.peers.values()
            if known.is_announced and core.members.may_be_there(known.id, now.monotonic_s)
        }
        if core.settings.role == "member":
            among[core.settings.peer] = of_settings(core.settings)
        able = {peer: has for peer, has in among.items() if not why_not(component.where, has)}
        return {
            "name": component.name,
            "replicas": component.replicas,
            "num_seen": len(among),  # that say that they are there: who has just connected has heard nobody yet
            "num_able": len(able),
            "placed": list(chosen(topic.peer, topic.name, component, able)),
        }

    # --- looking ----------------------------------------------------------------------------------

    def apps(self, name: str = "") -> dict[str, Any]:
        """The applications that are known (see `listing`), or the one that is meant."""
        core = self._service.core
        found = (
            [find_application(name, core.apps.book.entries.values(), acts=False)] if name else listed_applications(core)
        )
        return {
            "peer": self._service.identity.peer_id,
            "apps": [self._line(entry) for entry in sorted(found, key=lambda each: (each.name, each.author))],
        }

    def _line(self, entry: AppEntry) -> dict[str, Any]:
        core, now = self._service.core, clock.now()
        parts = [part for part in core.apps.parts.values() if part.entry.topic == entry.topic]
        return _judged(core, entry, now) | {
            "applied_at": date_of(entry.applied_at_ms),
            "is_before": any(part.entry.id != entry.id for part in parts),  # an earlier version is in force
            "here": sorted(part.component.name for part in parts if core.apps.is_running(part)),
            "components": [_counted(core, entry, component, now) for component in entry.read().components],
            "manifest": shown_application(entry),
        }

    def explain(self, name: str) -> dict[str, Any]:
        """Why here and why not, of each component; and who runs it, as far as this agent sees."""
        core, now = self._service.core, clock.now()
        entry = find_application(name, core.apps.book.entries.values(), acts=False)
        line = self._line(entry)
        components = []
        for component in entry.read().components:
            part = core.apps.parts.get((entry.author, entry.name, component.name))
            components.append(
                _counted(core, entry, component, now)
                | {"here": _here(core, part, entry, line), "peers": _peers(core, part, component, now)}
            )
        return line | {"peer": self._service.identity.peer_id, "role": core.settings.role, "components": components}

    # --- the end ----------------------------------------------------------------------------------

    def delete(self, name: str, reason: str = "") -> dict[str, Any]:
        """Take an application of this peer's own back. Raises `TaskError` for another's."""
        service, now = self._service, dated()
        own = [e for e in service.core.apps.book.entries.values() if e.author == service.identity.peer_id]
        try:
            entry = find_application(name, own, acts=True)
        except TaskError:
            others = find_application(name, service.core.apps.book.entries.values(), acts=True)
            raise TaskError(
                f"{others.name} is an application of {others.author}, who alone can delete it; to keep it from this "
                f"agent, speak against it: grapevine review reject {others.id[:12]}"
            ) from None
        service.perform(service.core.delete_application(entry.name, checked_reason(reason), now))
        return {"name": entry.name, "application": entry.id, "author": entry.author}


def shown_application(entry: AppEntry) -> dict[str, Any]:
    """An application in the form of its YAML, as it was signed."""
    return as_tree(entry.read(), entry.id)


def _did(held: AppEntry | None, encoded: bytes) -> str:
    """What applying these bytes comes to, where `held` is there already."""
    return "created" if held is None else "unchanged" if held.encoded == encoded else "configured"


def _judged(core: AgentCore, entry: AppEntry, now: Moment) -> dict[str, Any]:
    """Which application it is, and what this agent makes of it."""
    judgement = core.apps.judgement(entry, now)
    return {
        "application": entry.id,
        "name": entry.name,
        "author": entry.author,
        "standing": judgement.standing,
        "why": judgement.why,
    }


def _counted(core: AgentCore, entry: AppEntry, component: Component, now: Moment) -> dict[str, Any]:
    """A component: how many are to run, and how many say that they do."""
    word = offer(entry.author, entry.name, component.name)
    part = core.apps.parts.get((entry.author, entry.name, component.name))
    alive = [known for known in core.members.peers.values() if core.members.is_alive(known.id, now.monotonic_s)]
    running = sorted(known.id for known in alive if word in known.announcement.running)
    if part is not None and core.apps.is_running(part):
        running.append(core.settings.peer)
    work = component.workload
    return {
        "name": component.name,
        "type": "learning-task" if isinstance(work, LearningTask) else "webservice" if work.ports else "worker",
        "replicas": component.replicas,  # 0: wherever it qualifies
        "offered": sum(word in known.announcement.offers for known in alive)
        + bool(part is not None and part.is_offered),
        "running": running,
    }


def _here(core: AgentCore, part: Part | None, entry: AppEntry, line: dict[str, Any]) -> dict[str, Any]:
    """What becomes of a component on this very agent, and why."""
    if part is None and line["standing"] == "approved" and not core.apps.places.is_followed(entry):
        return {"state": "no place", "why": [NO_PLACE]}
    if part is None:
        return {"state": "not approved", "why": [line["why"]]}
    if part.why_not:
        return {"state": "does not qualify", "why": list(part.why_not)}
    peer = core.settings.peer
    if not part.is_placed:
        if part.is_settling:
            return {
                "state": "about to be placed",
                "why": ["it is this agent's turn once that has held for some heartbeats"],
            }
        wanted = part.component.replicas or len(part.chosen)
        why = f"{_are(wanted)} wanted of {part.num_offers} that would run it, and others come first"
        return {"state": "placed elsewhere", "why": [why]}
    if not part.is_in_hours:
        when = hours.in_words(part.component.hours) if part.component.hours else ""
        return {"state": "outside its hours", "why": [f"it is active at {when}"]}
    if part.is_everywhere:
        why = "it runs wherever it qualifies"
    else:
        place = part.chosen.index(peer) + 1 if peer in part.chosen else 0
        wanted = part.component.replicas or len(part.chosen)
        why = f"place {place} of {part.num_offers} that would run it, and {_are(wanted)} wanted"
    state = "running" if core.apps.is_running(part) else "placed here"
    return {"state": state, "why": [why] if state == "running" else [why, *_not_yet(core, part)]}


def _are(number: int) -> str:
    return f"{number} {'is' if number == 1 else 'are'}"


def _not_yet(core: AgentCore, part: Part) -> list[str]:
    """Why what is placed here does not run yet."""
    work = part.component.workload
    if not isinstance(work, LearningTask):
        return ["its container is being started"]
    entry = core.book.entries.get(work.task)
    why = core.why_not(entry, clock.now()) if entry is not None else []
    return why or ["its task waits for its initial weights"]


def _peers(core: AgentCore, part: Part | None, component: Component, now: Moment) -> list[dict[str, Any]]:
    """Of live members: who is chosen, and why the others are not."""
    offering = core.apps.who_offers(part, now) if part is not None else {}
    found: list[dict[str, Any]] = []
    for known in core.members.peers.values():
        if not core.members.is_alive(known.id, now.monotonic_s):
            continue
        reasons = why_not(component.where, announced(known.id, known.announcement))
        if not reasons and part is not None and known.id not in offering:
            reasons = ["it does not say that it would run it: its owner, its reviewers or its limits may be against it"]
        is_chosen = part is not None and known.id in part.chosen
        if not reasons and not is_chosen and part is not None:
            reasons = ["others come first"]
        found.append({"peer": known.id, "name": known.announcement.name, "chosen": is_chosen, "why_not": reasons})
    found.sort(key=lambda each: (not each["chosen"], each["peer"]))
    num_chosen = sum(each["chosen"] for each in found)
    return found[: max(MAX_SHOWN_PEERS, num_chosen)]
