"""Exported records, judged without a broker: for whoever wants to see for themselves why a task ran.

An export is a folder of files, one a record, each the exact bytes that its author signed. A file's
name is its topic with dots for slashes, because the signature covers the topic. Nothing in the bytes is
believed before it has been verified; of two records on one topic the one with the higher sequence counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.review import policy_of
from grapevine_agent.core.tasks.judging import judge, weigh
from grapevine_agent.core.tasks.task_book import verdict_of
from grapevine_agent.identity import load_identity
from grapevine_agent.service import clock
from grapevine_proto.codec import Received, open_envelope
from grapevine_proto.errors import ConfigError, RequestError, TaskError, WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest
from grapevine_proto.messages import Review, TaskPublication
from grapevine_proto.topics import TaskTopic, parse_below_root

SUFFIX = ".record"
MAX_RECORD_BYTES = 1 << 20


def file_name(topic: str) -> str:
    """The file of the record on a topic (below the root)."""
    return topic.replace("/", ".") + SUFFIX


def time_of(text: str) -> int:
    """A time that was written as ISO 8601 (UTC unless it says otherwise) in unix milliseconds; "": now.

    Raises `RequestError` for anything else.
    """
    if not text:
        return clock.now().wall_ms
    try:
        time = datetime.fromisoformat(text)
        wall_ms = int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        wall_ms = -1
    if wall_ms < 0:
        raise RequestError(f"--at {text[:40]}: is no time since 1970; write for example 2026-03-01T12:00")
    return wall_ms


def verified(paths: Iterable[Path], config: Config, wall_ms: int) -> list[dict[str, Any]]:
    """What these records amount to by a configuration's policy, for each task that they are of.

    Raises `TaskError` if there is no manifest among them.
    """
    held: dict[TaskTopic, Received] = {}
    refused: list[dict[str, str]] = []
    for file in _files(paths):
        try:
            received = _opened(file)
        except (WireError, OSError) as error:
            refused.append({"file": str(file), "why": str(error)})
            continue
        assert isinstance(received.topic, TaskTopic)
        other = held.get(received.topic)
        if other is None or _supersedes(received, other):
            held[received.topic] = received
    results = [
        _judged(received, manifest, held.values(), config, wall_ms) | {"refused": refused}
        for received, manifest in _manifests(held.values(), refused)
    ]
    if not results:
        reasons = "".join(f"\n  {each['file']}: {each['why']}" for each in refused)
        raise TaskError(f"there is no manifest among these files, so there is nothing to judge{reasons}")
    return results


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else (path,)


def _opened(file: Path) -> Received:
    topic = parse_below_root(file.name.removesuffix(SUFFIX).replace(".", "/"))
    if not isinstance(topic, TaskTopic) or topic.leaf not in ("manifest", "review"):
        raise WireError("topic", "is neither a manifest nor a review")
    with file.open("rb") as stream:
        content = stream.read(MAX_RECORD_BYTES + 1)
    return open_envelope(content, topic, max_bytes=MAX_RECORD_BYTES)


def _supersedes(new: Received, old: Received) -> bool:
    return new.message.sequence > old.message.sequence


def _manifests(records: Iterable[Received], refused: list[dict[str, str]]) -> Iterable[tuple[Received, TaskManifest]]:
    for received in records:
        body = received.message.body
        if not isinstance(body, TaskPublication):
            continue
        name = file_name(received.topic.below_root())
        if body.retracted:
            reason = f": {body.reason}" if body.reason else ""
            refused.append({"file": name, "why": f"the task was retracted by its publisher{reason}"})
            continue
        try:
            manifest = decode_manifest(body.manifest)
        except WireError as error:
            refused.append({"file": name, "why": str(error)})
            continue
        if manifest.publisher != received.message.sender:
            refused.append({"file": name, "why": f"forged: it names {manifest.publisher} as its publisher"})
            continue
        yield received, manifest


def _judged(
    publication: Received, manifest: TaskManifest, records: Iterable[Received], config: Config, wall_ms: int
) -> dict[str, Any]:
    assert isinstance(publication.topic, TaskTopic)
    task = publication.topic.task
    verdicts = {
        each.message.sender: verdict_of(each, each.message.body)
        for each in records
        if isinstance(each.message.body, Review) and each.message.body.task == task
    }
    policy = policy_of(config.review, config.trust, _own(config))
    judgement = judge(manifest.publisher, verdicts, policy, wall_ms, expires_at_ms=manifest.expires_at_ms)
    return {
        "task": task,
        "name": manifest.name,
        "publisher": manifest.publisher,
        "standing": judgement.standing,
        "why": judgement.why,
        "judged_at_ms": wall_ms,
        "reviews": [
            {
                "reviewer": each.reviewer,
                "approved": each.verdict.approved,
                "withdrawn": each.verdict.withdrawn,
                "reason": each.verdict.reason,
                "roles": list(each.roles),
                "made_at_ms": each.verdict.made_at_ms,
                "counts": not each.ignored,
                "counts_until_ms": each.until_ms,
                "ignored": each.ignored,
            }
            for each in weigh(verdicts, manifest.publisher, policy, wall_ms)
        ],
    }


def _own(config: Config) -> str:
    """This machine's peer id, if it is a peer: an auditor's need not be one."""
    try:
        return load_identity(config.agent.state_dir).peer_id
    except ConfigError:
        return ""
