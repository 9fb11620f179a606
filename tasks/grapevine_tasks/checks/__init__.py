"""Checks of what a stranger published, before anything of it is fetched or run."""

from grapevine_tasks.checks.manifest import check_few_samples, check_manifest
from grapevine_tasks.checks.memory import MemoryEstimate, estimate_memory
from grapevine_tasks.checks.program import check_program
from grapevine_tasks.checks.report import (
    EVALUATION_BATCH,
    TO_LOOK_AT,
    CheckReport,
    NodeReport,
    ProgramLimits,
    ValueTaskError,
    Work,
)

__all__ = [
    "EVALUATION_BATCH",
    "TO_LOOK_AT",
    "CheckReport",
    "MemoryEstimate",
    "NodeReport",
    "ProgramLimits",
    "ValueTaskError",
    "Work",
    "check_few_samples",
    "check_manifest",
    "check_program",
    "estimate_memory",
]
