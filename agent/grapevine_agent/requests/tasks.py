"""What a model engineer may ask of a service: publish, revise, retract, watch, and fetch a model.

The methods stand beside those of `requests`; answers are plain JSON values here too. A model travels over
the socket as Base64 of its float32 vectors: it fitted one packet, so it fits one reply.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from grapevine_agent.core.effects import Effect
from grapevine_agent.core.tasks.lineage import descendants
from grapevine_agent.core.tasks.task_book import TaskEntry
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.requests.costs import ENVELOPE_BYTES, update_bytes
from grapevine_agent.requests.dating import dated
from grapevine_agent.requests.naming import find_task, meant, whole_peer
from grapevine_agent.requests.parameters import checked_reason, needed, within
from grapevine_agent.service import clock
from grapevine_agent.service.figures import finite
from grapevine_agent.service.shell import AgentService
from grapevine_proto.bulk import LARGEST_BULK
from grapevine_proto.errors import RequestError, TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import ReleasedModel, Vector, Which, plain
from grapevine_tasks.built import finish_manifest, load_built
from grapevine_tasks.closed_sets import METRICS
from grapevine_tasks.layout import ModelLayout

ASK_AGAIN_S = 3.0
LONGEST_WAIT_S: Final = 3600.0  # for a model that a peer was asked for
MOST_CLUSTERS: Final = 65_536  # that one can be chosen of


class TaskRequests:
    """See the module's docstring."""

    def __init__(self, service: AgentService) -> None:
        self._service = service

    def looks(self) -> Mapping[str, Callable[..., Any]]:
        """What changes nothing, by the names that commands use."""
        return {"task": self.task}

    def acts(self) -> Mapping[str, Callable[..., Any]]:
        """What changes something, by the names that commands use."""
        return {
            "publish": self.publish,
            "revise": self.revise,
            "retract": self.retract,
            "readings": self.readings,
            "model": self.model,
        }

    # --- publishing -------------------------------------------------------------------------------

    async def publish(self, folder: str, servers: list[str], another: bool = False) -> dict[str, Any]:
        """Sign and announce a built task; `servers` are authorised beside those that its file names.

        What was published already, to the letter, is announced again as the same task, unless `another` is wanted.
        """
        manifest, weights = await self._finished(folder, servers)
        before = None if another else await self._service.turns.look(lambda: self._published_before(manifest))
        return {**await self._publish(before or manifest, weights), "again": before is not None}

    async def revise(
        self,
        folder: str,
        parent: str,
        servers: list[str],
        reason: str = "",
        fork: bool = False,
        fresh: bool = False,
    ) -> Any:
        """Publish a built task as the next version of one of our own; `fresh`: its members bring no model along."""
        turns, reason = self._service.turns, checked_reason(reason)
        entry = await turns.look(lambda: self._own(parent, "revise"))

        def check() -> None:
            book = self._service.core.book
            newer = descendants(entry, book.entries, book.children)
            if newer and not fork:
                raise TaskError(
                    f"{entry.brief.name} has a version {newer[0].brief.version} already ({newer[0].id[:12]}): revise "
                    "that one (--parent), or say --fork to let its members train both"
                )

        await turns.look(check)
        manifest, weights = await self._finished(folder, servers)
        version = entry.brief.version + 1
        note = f"Version {version}: {reason}" if reason else ""
        manifest = replace(
            manifest,
            parent=entry.id,
            version=version,
            fresh=fresh,
            description="\n\n".join(text for text in (manifest.description, note) if text),
        )
        same = ModelLayout.of(manifest.program) == ModelLayout.of(entry.manifest.program)
        result = await self._publish(manifest, weights, check)
        ages = await turns.look(lambda: self._ages(entry.id))
        brought = {"keeps_model": same and not fresh, "fresh": fresh, "member_ages": ages}
        return {**result, "parent": entry.id, **brought}

    def _ages(self, task: str) -> list[int]:
        """The optimiser steps in the models of the members that this agent knows of, sorted; its own among them."""
        core, now = self._service.core, clock.now()
        told = [core.members.peers[peer].ages.get(task) for peer in core.members.of_task(task, now.monotonic_s)]
        own = core.tasks.learning.get(task)
        return sorted(age for age in (*told, own.model.age if own is not None else None) if age is not None)

    def retract(self, task: str, reason: str = "") -> dict[str, Any]:
        """Take a task of our own back: whoever hears of it stops training it."""
        entry, reason = self._own(task, "retract"), checked_reason(reason)
        if not entry.retracted:
            self._service.perform(self._service.core.retract(entry.id, reason))
        return {**meant(entry), "reason": entry.retraction}

    def _own(self, task: str, verb: str) -> TaskEntry:
        entry, own = self._find(task, acts=True), self._service.identity.peer_id
        if entry.brief.publisher != own:
            raise TaskError(
                f"{entry.brief.name} ({entry.id[:12]}) was published by {entry.brief.publisher}, and this is "
                f"{own}: only its publisher can {verb} it"
            )
        return entry

    def _find(self, task: str, *, acts: bool = False) -> TaskEntry:
        return find_task(task, self._service.core.book.entries, acts=acts)

    async def _finished(self, folder: str, servers: list[str]) -> tuple[TaskManifest, bytes]:
        """The manifest of a built task, and its initial weights."""
        servers = [whole_peer(server, "the server") for server in servers]
        built = await asyncio.to_thread(load_built, _whole_path(folder))
        manifest = finish_manifest(built.draft, publisher=self._service.identity.peer_id, now_ms=dated().wall_ms)
        return replace(manifest, servers=tuple(dict.fromkeys((*manifest.servers, *servers)))), built.weights

    def _published_before(self, manifest: TaskManifest) -> TaskManifest | None:
        """The same manifest of an earlier day, where its task is still announced."""
        now_ms = clock.now().wall_ms
        found: list[TaskManifest] = []
        for entry in self._service.core.book.entries.values():
            if entry.brief.publisher != manifest.publisher or entry.brief.name != manifest.name:
                continue
            try:
                head = entry.head
            except TaskError:
                continue
            same = replace(manifest, created_at_ms=head.created_at_ms, expires_at_ms=head.expires_at_ms)
            if task_id(encode_manifest(same)) == entry.id and not entry.retracted and not 0 < entry.until_ms < now_ms:
                found.append(same)
        return max(found, key=lambda each: each.created_at_ms, default=None)

    async def _publish(
        self, manifest: TaskManifest, weights: bytes, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        service = self._service
        check_merge_plan(manifest.merging)  # what was built may be older than we are
        content = encode_manifest(manifest)
        if (size := len(content) + ENVELOPE_BYTES) > (limit := service.attachments.max_packet_bytes):
            raise TaskError(
                f"{manifest.name}: its manifest takes {size} bytes, more than one packet of {limit}; raise "
                "mqtt.max_packet_bytes on every member and on the broker, or make the program smaller"
            )
        if (size := max(len(weights), update_bytes(manifest))) > LARGEST_BULK:
            raise TaskError(f"{manifest.name}: its model takes {size} bytes, at most {LARGEST_BULK} are sent")

        def published() -> list[Effect]:
            check()  # somebody else may have had a turn since
            return service.core.publish_task(content, weights, manifest.expires_at_ms)[1]

        await service.turns.take(published, num_bytes=lambda: len(weights))
        return {
            "task": task_id(content),
            "name": manifest.name,
            "version": manifest.version,
            "publisher": manifest.publisher,
            "servers": list(manifest.servers),
            "manifest_bytes": len(content),
            "weights_bytes": len(weights),
        }

    # --- watching ---------------------------------------------------------------------------------

    def task(self, task: str) -> dict[str, Any]:
        """What is known of a task, and who takes part in it now."""
        entry, core, now = self._find(task), self._service.core, clock.now()
        manifest, members = entry.head, core.members
        to_ask = members.to_ask(entry.id, now.monotonic_s)
        servers = [peer for peer in manifest.servers if members.may_be_there(peer, now.monotonic_s)]
        return {
            "task": entry.id,
            "name": manifest.name,
            "version": manifest.version,
            "parent": manifest.parent,
            "publisher": manifest.publisher,
            "standing": core.judgement(entry, now).standing,
            "retracted": entry.retracted,
            "newer": [newer.id for newer in descendants(entry, core.book.entries, core.book.children)],
            "metric_name": manifest.training.metric,
            "strategy": manifest.merging.strategy,
            "server_strategy": manifest.merging.server_strategy,
            "members": [peer for peer in to_ask if peer not in manifest.servers],
            "servers": [peer for peer in servers if members.says_it_takes_part(peer, entry.id)],
            "names": {peer: members.peers[peer].announcement.name for peer in (*to_ask, *servers)}
            | {self._service.identity.peer_id: core.settings.name},
            "bests": {  # of those members whose heartbeats are listened to: claims
                peer: asdict(members.peers[peer].bests[entry.id])
                for peer in to_ask
                if entry.id in members.peers[peer].bests
            },
            "metrics": [manifest.training.metric, "loss"],
            "higher_is_better": METRICS[manifest.training.metric].higher_is_better
            if manifest.training.metric in METRICS
            else True,
            "joined": entry.id in core.tasks.learning,
            "serves": entry.id in core.tasks.aggregating,
            "own": self._service.identity.peer_id,
        }

    def readings(self, task: str, after: int = 0) -> dict[str, Any]:
        """What members have said of themselves since reading number `after`; watching begins with the first call."""
        entry = self._find(task)
        self._service.perform(self._service.core.watch(entry.id))
        newest, readings = self._service.watching.since(entry.id, after, clock.now().monotonic_s)
        return {"newest": newest, "readings": readings, "about": self.task(entry.id)}

    # --- fetching ---------------------------------------------------------------------------------

    async def model(
        self, task: str, peer: str | None = None, cluster: int = 0, within_s: float = 30.0, latest: bool = False
    ) -> dict[str, Any]:
        """The released model of a member or server, by its id; of this agent itself where `peer` is its own, or None.

        It is the best that a member has had, by its own account; the newest where `latest`, or it has measured none.
        Raises TaskError if the peer refuses, or does not answer in time.
        """
        turns, core = self._service.turns, self._service.core
        entry = await turns.look(lambda: self._find(task))
        giver = self._service.identity.peer_id if peer is None else whole_peer(peer, "the peer")
        cluster, within_s = (
            int(within(cluster, 0, MOST_CLUSTERS - 1, "cluster")),
            within(within_s, 0.1, LONGEST_WAIT_S, "within_s"),
        )
        which: Which = "latest" if latest else "best"
        if giver == self._service.identity.peer_id:
            released = await turns.look(lambda: core.models.own(entry.id, cluster, which))
        else:
            released = await self._ask(giver, entry, cluster, within_s, which)
        if released.refusal:
            raise TaskError(f"{giver} gives no model of {entry.brief.name}: {released.refusal}")
        return {
            "task": entry.id,
            "peer": giver,
            "manifest": base64.b64encode(entry.encoded).decode(),
            "at_ms": clock.now().wall_ms,
            **await asyncio.to_thread(_told, released),
        }

    async def _ask(self, peer: str, entry: TaskEntry, cluster: int, within_s: float, which: Which) -> ReleasedModel:
        """Ask until there is an answer: a request may come before the peer has heard of our session."""
        service = self._service
        answer = service.watching.expect(peer, entry.id)
        try:
            async with asyncio.timeout(within_s):
                while True:
                    await service.turns.take(
                        lambda: service.core.models.ask(peer, entry.id, cluster, clock.now(), which)
                    )
                    done, _ = await asyncio.wait({answer}, timeout=ASK_AGAIN_S)
                    if done:
                        return answer.result()
        except TimeoutError:
            raise TaskError(
                f"{peer} did not send its model of {entry.brief.name} within {within_s:.0f} s: it may be busy, "
                "gone, or older than this command; ask another one (--from)"
            ) from None
        finally:
            service.watching.give_up(peer, entry.id)


def _whole_path(folder: str) -> Path:
    path = Path(needed(folder, "the folder"))
    if not path.is_absolute():
        raise RequestError(f"folder = {folder!r}: write its whole path; this agent stands elsewhere than you")
    return path


def _told(released: ReleasedModel) -> dict[str, Any]:
    return {
        "server": released.server,
        "cluster": released.cluster,
        "members": list(released.members),
        "strategy": released.strategy,
        "age": released.age,
        "round": released.round,
        "version": released.version,
        "contributions": dict(released.contributions),
        "num_evaluated": released.num_evaluated,
        "loss": finite(released.loss),
        "metric": finite(released.metric),
        "which": released.which,
        "best": asdict(released.best) if released.best is not None else None,
        "latest": asdict(released.latest) if released.latest is not None else None,
        "baseline": released.baseline,
        "baseline_name": released.baseline_name,
        "full": _text_of(plain(released.full)),
        "buffers": _text_of(plain(released.buffers)),
    }


def _text_of(vector: Vector) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
