"""What `init` and `profile` say of the machine that they run on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from grapevine_agent.cli.output import counted, shown
from grapevine_agent.config.board import Board, Proposal


def board_words(board: Board) -> str:
    """One line of Rich markup: what it is, and what runs on it."""
    product = " ".join(dict.fromkeys(part for part in (board.vendor, board.product) if part))
    name = board.model or product or board.cpu or "a machine that says not what it is"
    system = board.system
    libc = " ".join(part for part in (system.libc, ".".join(map(str, system.libc_version))) if part)
    return (
        f"this machine: {shown(name)}; {counted(board.machine.cores, 'core')}, {board.machine.memory_mb:,} MB; "
        f"{shown(system.kernel)}, programs of {system.bits} bits, {shown(libc)}, {system.implementation} "
        f"{system.python[0]}.{system.python[1]}"
    )


def proposal_words(proposal: Proposal, configured: str) -> str:
    """Which profile is proposed and why, beside the one that the configuration has."""
    line = f"firmware profile [bold]{proposal.profile}[/]: {shown(proposal.why)}"
    if configured == proposal.profile:
        return line
    return f"{line}\n  the configuration says {shown(configured)}, and that holds"


def board_json(board: Board, proposal: Proposal) -> dict[str, Any]:
    """The same for programs."""
    return {
        "machine": asdict(board),
        "proposed": proposal.profile,
        "why": proposal.why,
        "warnings": list(proposal.warnings),
    }
