"""Checks of what a stranger published, before anything of it is fetched or run."""

from grapevine_tasks.checks.manifest import check_manifest
from grapevine_tasks.checks.memory import MemoryEstimate, estimate_memory
from grapevine_tasks.checks.program import check_program
from grapevine_tasks.checks.report import EVALUATION_BATCH, CheckReport, NodeReport, ProgramLimits

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
