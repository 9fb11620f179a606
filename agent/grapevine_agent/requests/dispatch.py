"""What an owner may ask of a running service, and what it answers: the methods behind the Unix socket.

Answers are plain JSON values. Commands print them, `--json` passes them on as they are.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import psutil

from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.encodings import why_larger
from grapevine_agent.core.learning.guard.guard import Guard
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.learning.pace import vectors_bytes
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.tasks.task_book import TaskEntry
from grapevine_agent.requests.applications import ApplicationRequests
from grapevine_agent.requests.governing import GovernorRequests
from grapevine_agent.requests.holding import HoldingRequests, contents_of, held, state_folder
from grapevine_agent.requests.listening import ListeningRequests
from grapevine_agent.requests.listing import listed
from grapevine_agent.requests.naming import find_task, meant
from grapevine_agent.requests.parameters import checked
from grapevine_agent.requests.peers import PeerRequests, scope_of
from grapevine_agent.requests.reloading import ReloadRequests
from grapevine_agent.requests.reviews import ReviewRequests
from grapevine_agent.requests.tasks import TaskRequests
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachment
from grapevine_agent.service.figures import served_by
from grapevine_agent.service.saving import DECISIONS
from grapevine_agent.service.shell import AgentService
from grapevine_agent.store.room import Contents
from grapevine_proto.errors import RequestError
from grapevine_proto.topics import InboxTopic


class Requests:
    """Answers `{"method": …, "params": {…}}` for one service."""

    def __init__(self, service: AgentService) -> None:
        self._service = service
        reviews, tasks, applications = ReviewRequests(service), TaskRequests(service), ApplicationRequests(service)
        self._looks: dict[str, Callable[..., Any]] = {
            "manifest": self.manifest,
            "peers": PeerRequests(service).peers,
            **reviews.looks(),
            **tasks.looks(),
            **applications.looks(),
        }
        self._acts: dict[str, Callable[..., Any]] = {  # and what awaits something
            "status": self.status,
            "consent": self.consent,
            **reviews.acts(),
            **tasks.acts(),
            **applications.acts(),
            **HoldingRequests(service).acts(),
            **ReloadRequests(service).acts(),
            **GovernorRequests(service).acts(),
            **ListeningRequests(service).acts(),
        }

    async def answer(self, request: dict[str, Any]) -> Any:
        """The result of one request. Raises `GrapevineError` with what is wrong with it.

        Who only looks is answered while something large is going on. Who changes something waits for its turn, and
        takes it itself if it awaits something else, too.
        """
        method, params = request.get("method"), request.get("params", {})
        known = self._looks | self._acts
        if method not in known:
            raise RequestError(f"unknown method {method!r}; known: {', '.join(known)}")
        asked = partial(known[method], **checked(method, known[method], params))
        turns = self._service.turns
        if method in self._looks:
            return await turns.look(asked)
        if inspect.iscoroutinefunction(known[method]):
            return await asked()
        async with turns.alone():
            return asked()

    # --- asking -----------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """Who this agent is, how it is connected, and what it does with the tasks it knows (see `listing`)."""
        contents = await contents_of(self._service.store)
        return await self._service.turns.look(lambda: self._status(contents))

    def _status(self, contents: Contents | None) -> dict[str, Any]:
        service, core, now = self._service, self._service.core, clock.now()
        figures, attachment = service.figures(), service.attachments.first
        connected_to, reception = attachment.transport.connected_to, attachment.reception
        return {
            "peer": figures.peer,
            "name": core.settings.name,
            "role": figures.role,
            "config": str(service.config.path.absolute()) if service.config.path is not None else "",
            "profile": core.settings.limits.profile,
            "connected": connected_to is not None,
            "broker": str(connected_to.without_credentials()) if connected_to else "",
            "mqtt_version": reception.version,
            "trouble": service.attachments.trouble,
            "broker_cannot": reception.cannot,
            "broker_gives": asdict(reception.gives) if reception.gives else None,  # of what it retains
            "brokers": [_broker(each, core) for each in service.attachments],
            "homeassistant": service.home_assistant.status() if service.home_assistant is not None else None,
            "metrics": service.endpoint.status() if service.endpoint is not None else None,
            "discovery": service.discovering.status() if service.discovering is not None else None,
            "uptime_s": figures.uptime_s,
            "memory_mb": psutil.Process(os.getpid()).memory_info().rss / 1e6,
            "longest_stop_ms": figures.longest_stop_s * 1e3,  # of the event loop, in ten minutes
            "sleep": _sleep(core),
            "governor": service.governor.status(),
            "peers": {
                "known": figures.num_known,
                "alive": figures.num_alive,
                "asleep": figures.num_asleep,
            },
            "scope": scope_of(core, now),
            "rejected": figures.rejected,
            "events": {"number": service.telling.number, "counts": figures.events},
            "gateway": {
                "is_open": core.gateway.is_open,
                "known_at": core.gateway.status(),  # how many peers, by the broker's number in `brokers`
                "messages": service.forwarding.num_messages,
                "bytes": service.forwarding.num_bytes,
            },
            "transfers": service.carrying.status(),
            "unsaved": service.unsaved.lines(),
            "recorded": service.recording.counts() if service.recording is not None else {},
            "sensors": service.recording.status() if service.recording is not None else [],
            "trainers": service.trainers.status() if service.trainers is not None else [],
            "held": held(service),
            "state_folder": state_folder(service, contents),
            "num_tasks": figures.num_tasks_known,
            "tasks": [self._task(entry) for entry in listed(core)],
        }

    def _task(self, entry: TaskEntry) -> dict[str, Any]:
        core, now = self._service.core, clock.now()
        brief = entry.brief
        taking_part = core.tasks.learning.get(entry.id) or core.tasks.aggregating.get(entry.id)
        judgement = core.judgement(entry, now)
        line: dict[str, Any] = {
            "id": entry.id,
            "name": brief.name,
            "version": brief.version,
            "publisher": brief.publisher,
            "standing": judgement.standing,
            "joined": taking_part is not None,
            "why": "" if taking_part else "; ".join(core.why_not(entry, now)) or "waits for its initial weights",
            "retry_at_ms": core.tasks.assessor.retry_at_ms(entry, now),  # of what failed too often; 0: nothing is
            "judgement": judgement.why,
            "judged_until_ms": judgement.changes_at_ms,  # when time alone may change it; 0: never
            "decided_by": _decided_by(entry, core),
            "strategy": brief.strategy,
        }
        match taking_part:
            case Learning() as learner:
                line |= _progress(learner, now) | _travels(learner, self._service)
                line["held_back"] = self._service.governor.of_task(entry.id)
                line["quarantined"] = _quarantined(learner.merging.guard, learner.model.round)
            case Aggregator() as aggregator:
                line |= {"model_version": aggregator.model_version, "age": aggregator.model.age}
                line["served"] = asdict(served_by(aggregator, now))
                line["quarantined"] = _quarantined(aggregator.guard, aggregator.guard_round)
        return line

    def manifest(self, task: str) -> dict[str, Any]:
        """A task's manifest, as the hexadecimal digits of its bytes."""
        entry = find_task(task, self._service.core.book.entries, acts=False)
        return {"task": entry.id, "name": entry.brief.name, "manifest": entry.encoded.hex()}

    # --- saying -----------------------------------------------------------------------------------

    async def consent(self, task: str, joined: bool) -> dict[str, Any]:
        """The owner joins or leaves a task. `not_saved`: why that is not on disk yet, and a power cut undoes it."""
        service = self._service
        entry = await service.turns.look(lambda: find_task(task, service.core.book.entries, acts=True))
        await service.turns.take(
            lambda: service.core.set_consent(entry.id, joined, clock.now()),
            num_bytes=service.core.tasks.largest_model_bytes,  # an earlier version of it may end
        )
        not_saved = await service.why_not_saved(DECISIONS)
        line = await service.turns.look(lambda: self._task(entry))
        return line | meant(entry) | {"peer": service.identity.peer_id, "not_saved": not_saved}


def _progress(learner: Learning, now: Moment) -> dict[str, Any]:
    evaluation, best = learner.evaluation, learner.best.figure(learner.model.round)
    bound = learner.staleness_bound(now)
    return {
        "round": learner.model.round,
        "age": learner.model.age,
        "experience": learner.model.experience,
        "loss": learner.loss,
        "metric": evaluation.metric if evaluation else None,
        "num_evaluated": evaluation.num_evaluated if evaluation else None,
        "best": asdict(best) if best else None,
        "baseline": evaluation.baseline if evaluation else None,
        "baseline_name": evaluation.baseline_name if evaluation else "",
        "metric_in_units": evaluation.metric_in_units if evaluation else None,
        "enough": learner.patience.is_enough,
        "metric_name": learner.manifest.training.metric,
        "peers": len(learner.members.of_task(learner.task, now.monotonic_s)),
        "server": learner.server_state(),
        "servers": [  # each of them; `refused`: why its newest model was not taken
            {"peer": link.peer, "state": link.state, "refused": link.refused} for link in learner.servers.values()
        ],
        "shares": {peer: round(share, 4) for peer, share in learner.merging.shares.items()},
        "resting": learner.rest.is_resting,
        "merges": learner.merging.num_merged,
        "sent": learner.num_sent,
        "send_rate": learner.send_rate(now),  # of gossip, 1/s
        "n": learner.num_members(now),  # members counted in rates, this one too
        "staleness": learner.staleness(now),
        "staleness_bound": bound if bound != float("inf") else None,
        "sources": learner.most_stale(now),  # versions that are not here yet, the 20 most stale
        "energy_j": learner.energy_j,  # of training, since the task was joined
        "round_energy_j": learner.energy.round_j,  # of the last round
        "energy_by": learner.energy.by,  # "metered" or "modelled"; empty: nobody knows what the device draws
    }


def _quarantined(guard: Guard, round_: int) -> list[dict[str, Any]]:
    """Peers whose updates are not listened to, for so many more rounds, and why."""
    return [
        {"peer": peer, "rounds": rounds, "why": why} for peer, (rounds, why) in guard.quarantine.held(round_).items()
    ]


def _travels(learner: Learning, service: AgentService) -> dict[str, Any]:
    """How updates go out: what they are written in, why not in what the owner asks for, and whether in chunks."""
    writer, wanted, plan = learner.writer, learner.settings.encoding, learner.manifest.merging
    sends_changes = writer.update_form == "delta"
    used, planned = writer.encoding, (writer.encodings.change if sends_changes else writer.encodings.whole).name
    why = why_larger(plan, wanted, sends_changes=sends_changes)
    if used != planned:
        why = f"{planned} cannot hold the model's numbers, or makes it no smaller"
    num_bytes = round(vectors_bytes(learner.layout, writer.update_form, writer.encodings))
    anybody = InboxTopic("", service.identity.peer_id)
    return {
        "encoding": used,
        "encoding_wanted": wanted,  # by the firmware profile, or limits.encoding
        "encoding_why": why,  # "": it is what is wanted
        "update_bytes": num_bytes,  # about
        "in_chunks": service.carrying.goes_apart(num_bytes, anybody),
    }


def _decided_by(entry: TaskEntry, core: AgentCore) -> str:
    """Why a task is joined, or not. A server serves what is approved: it joins nothing."""
    if entry.id in core.tasks.aggregating:
        return "a server needs no consent"
    return core.book.decide(entry, core.settings).by


def _sleep(core: AgentCore) -> dict[str, Any] | None:
    """When this device is connected, as its owner wrote it; None: always. It wakes up at `until_ms`; 0: it is awake."""
    plan = core.settings.sleep
    if plan is None:
        return None
    return {"asleep": core.sleep.is_asleep, "until_ms": core.sleep.until_ms, **asdict(plan)}


def _broker(attachment: Attachment, core: AgentCore) -> dict[str, Any]:
    url, reception = attachment.transport.connected_to, attachment.reception
    delay_s = attachment.sending.delay_s
    return {
        "number": attachment.number,  # those that were found come and go, and each has one of its own
        "url": str((url or attachment.transport.brokers[0]).without_credentials()),
        "connected": url is not None,
        "found": (url or attachment.transport.brokers[0]).is_found,  # announced by mDNS, and not configured
        "mqtt_version": reception.version if url else "",
        "trouble": reception.trouble,
        "cannot": reception.cannot if url else [],
        "peers": core.brokers.num_online(attachment.number),
        "delay_ms": None if delay_s == math.inf else delay_s * 1e3,  # of an acknowledgement
        "max_packet_bytes": attachment.transport.max_packet_bytes,
        "waiting": len(attachment.outbox),
    }
