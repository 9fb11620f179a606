"""Whether a task fits this device: its program, its pace, and the samples of a source beside it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from grapevine_agent.config.firmware import FirmwareProfile
from grapevine_agent.core.learning.keeping import FILE_BYTES
from grapevine_agent.core.learning.places import held_bytes
from grapevine_agent.core.settings import Needs
from grapevine_agent.core.tasks.deadlines import pace_reason, work_of
from grapevine_agent.core.tasks.fitting import TRAINER_MB, memory_reason, preparing_mb, samples_reason, training_mb
from grapevine_agent.data.matching import WhyNoRoom, has_room
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import ManifestHead, TaskManifest
from grapevine_tasks.checks import MemoryEstimate, ProgramLimits, check_manifest, estimate_memory
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import SampleMemory

MIB: Final = 2**20
# The bound on a program's memory trusts no kernel, and is up to twice what honest programs take. What the estimate
# says is held against the memory itself, and the trainer process cannot grow beyond it.
BOUND_SLACK = 2
MOST_ESTIMATES = 10_000  # that are kept, some hundred bytes each
# The current one, the one before it, the best one, and the one that is being written; the best is half as large.
FILES_OF_A_MODEL: Final = 4


@dataclass
class _Estimated:
    """What is known of a task that fits: its memory, its file on disk, and the samples that it was matched with."""

    memory: MemoryEstimate
    file_bytes: int
    held_mb: int  # of the others' models, in the service
    samples: SampleMemory | None = None


@dataclass
class BareTrainer:
    """What a trainer with PyTorch and without samples takes on this device: as its last one told."""

    mb: int = TRAINER_MB


class DeviceFit:
    """Whether tasks fit a device: sound, small and quick enough, and with room for the samples beside the model."""

    def __init__(self, profile: FirmwareProfile, step_timeout_s: float, bare: BareTrainer | None = None) -> None:
        self._profile = profile
        self._step_timeout_s = step_timeout_s
        self._bare = bare or BareTrainer()
        self._estimates: OrderedDict[str, _Estimated] = OrderedDict()  # of the tasks that fit, by id
        self._limits = ProgramLimits(
            num_parameters=profile.max_parameters, memory_bytes=BOUND_SLACK * profile.memory_mb * MIB
        )

    def is_for(self, profile: FirmwareProfile, step_timeout_s: float) -> bool:
        """Whether it says what a device of this profile, with this limit, would be told."""
        return (profile, step_timeout_s) == (self._profile, self._step_timeout_s)

    def reason(self, task: str, manifest: TaskManifest) -> str:
        """Why a task does not fit, whatever it is trained on; empty if it does."""
        reason, estimate = self._look(manifest)
        self._estimates.pop(task, None)
        if estimate is not None and not reason:
            layout = ModelLayout.of(manifest.program)
            num_numbers = 2 * (layout.num_parameters + layout.num_buffers)  # the working and the released model
            held = held_bytes(manifest.merging, layout, memory_mb=self._profile.memory_mb)
            self._estimates[task] = _Estimated(estimate, 4 * num_numbers + FILE_BYTES, held // MIB)
            if len(self._estimates) > MOST_ESTIMATES:
                self._estimates.popitem(last=False)
        return reason

    def room(self, task: str) -> WhyNoRoom:
        """Why samples do not fit beside a task's model; of one that does not fit in any case `reason` says it."""
        held = self._estimates.get(task)
        if held is None:
            return has_room
        return lambda samples: samples_reason(held.memory, samples, self._profile.memory_mb, bare_mb=self._bare.mb)

    def matched(self, task: str, samples: SampleMemory) -> None:
        """A task was matched with a source whose samples take so much."""
        if (held := self._estimates.get(task)) is not None:
            held.samples = samples

    def needs(self, task: str, manifest: ManifestHead, *, attached: bool = False) -> Needs:
        """What a task takes here while it is joined; `attached`: a trainer of the owner's does the work, not ours."""
        held, required = self._estimates.get(task), manifest.requirements
        disk_mb = math.ceil((FILES_OF_A_MODEL * held.file_bytes) / MIB) if held is not None else 0
        held_mb = held.held_mb if held is not None else 0
        if attached:
            return Needs(memory_mb=min(held_mb, self._profile.memory_mb), disk_mb=disk_mb)
        memory_mb = required.memory_mb
        if held is not None and held.samples is not None:
            training = training_mb(held.memory, held.samples, bare_mb=self._bare.mb)
            memory_mb = max(memory_mb, preparing_mb(held.samples), training)
        # A task that fits alone is not refused for what its members may come to say.
        memory_mb = max(memory_mb, min(memory_mb + held_mb, self._profile.memory_mb))
        return Needs(memory_mb=memory_mb, cores=required.cores, disk_mb=disk_mb)

    def memory_mb(self, manifest: TaskManifest, samples: SampleMemory) -> tuple[int, int]:
        """What preparing these samples takes in all, and what training on them. (0, 0) of an unsound task."""
        estimate = self._look(manifest)[1]
        if estimate is None:
            return 0, 0
        return preparing_mb(samples), training_mb(estimate, samples, bare_mb=self._bare.mb)

    def _look(self, manifest: TaskManifest) -> tuple[str, MemoryEstimate | None]:
        profile, plan = self._profile, manifest.training
        try:
            checked = check_manifest(manifest, check_merging=check_merge_plan, limits=self._limits)
        except TaskError as error:
            return str(error), None
        estimate = estimate_memory(manifest.program, checked, plan)
        reasons = (
            memory_reason(manifest, estimate, profile.memory_mb, bare_mb=self._bare.mb),
            pace_reason(work_of(manifest, checked), plan, profile.pace, self._step_timeout_s),
        )
        return "; ".join(reason for reason in reasons if reason), estimate
