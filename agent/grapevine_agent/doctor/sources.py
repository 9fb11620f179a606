"""The owner's data: whether each source can be read from its beginning to its end, and whether it still fills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from grapevine_agent.data.source import DataSource
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation

_SURVEYING: Final = "grapevine_agent.doctor.surveying"


def no_sources(situation: Situation) -> list[Finding]:
    """What it means that there are none."""
    trains = situation.profile is not None and situation.profile.can_train
    if not trains or (situation.config is not None and situation.config.trainers):
        return [Finding(check="data", level="skip", says="no source is configured, and none is needed here")]
    says = "no source is configured: no task that trains on data is joined here"
    remedy = "add a [[data]] table to the configuration; grapevine data check shows what is found in it"
    return [Finding(check="data", level="warn", says=says, remedy=remedy)]


async def source(each: DataSource, silent: Sequence[str]) -> list[Finding]:
    """`silent`: why it records nothing now, of a source of live topics."""
    code, told = await _survey(each)
    facts: dict[str, Any] = {"kind": each.kind, "format": each.format, "path": str(each.path)}
    check = f"see grapevine data check {each.name}"
    if told is None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        says = f"what reads {each.path} {how}"
        return [Finding(check="data", about=each.name, level="fail", says=says, remedy=check, facts=facts)]
    if told["trouble"]:
        return [Finding(check="data", about=each.name, level="fail", says=told["trouble"], remedy=check, facts=facts)]
    facts |= told
    says = f"{told['samples']:,} samples of {each.kind}, {told['bytes_on_disk']:,} bytes on disk"
    if silent:
        says += f"; nothing is being recorded: {'; '.join(silent)}"
        return [Finding(check="data", about=each.name, level="warn", says=says, remedy=check, facts=facts)]
    if not told["samples"]:
        return [Finding(check="data", about=each.name, level="warn", says=says, remedy=check, facts=facts)]
    return [Finding(check="data", about=each.name, level="ok", says=says, facts=facts)]


def why_silent(situation: Situation) -> dict[str, list[str]]:
    """Of each source of live topics that records nothing, why, as the agent that runs here says."""
    if situation.agent == "none" and situation.config is not None:
        why = ["only while an agent runs is anything recorded"]
        return {each.name: why for each in situation.config.data if each.recording is not None}
    return {str(each["name"]): list(each["why"]) for each in situation.status.get("sensors") or () if each.get("why")}


async def _survey(each: DataSource) -> tuple[int, dict[str, Any] | None]:
    """What the process says, and how it ended. It is killed with its caller's patience."""
    # -P: nothing that lies in the working directory is imported.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", _SURVEYING), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
    )
    try:
        out, _ = await process.communicate(each.to_json().encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(out)
        if isinstance(told["trouble"], str):
            return process.returncode or 0, told
    return process.returncode or 0, None
