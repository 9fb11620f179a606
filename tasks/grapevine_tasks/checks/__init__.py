"""Checks of what a stranger published, before anything of it is fetched or run."""

from grapevine_tasks.checks.manifest import check_manifest
from grapevine_tasks.checks.memory import EVALUATION_BATCH, MemoryEstimate, estimate_memory
from grapevine_tasks.checks.program import CheckReport, NodeReport, ProgramLimits, check_program

__all__ = [
    "EVALUATION_BATCH",
    "CheckReport",
    "MemoryEstimate",
    "NodeReport",
    "ProgramLimits",
    "check_manifest",
    "check_program",
    "estimate_memory",
]
