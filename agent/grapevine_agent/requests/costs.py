"""What a task would cost a device, and which devices it fits: found out from its manifest alone.

For engineers before they publish, for reviewers before they approve, and for an agent before it
joins: all of them see the same figures. Nothing is run; `grapevine_tasks.checks` says how they come about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from grapevine_agent.config.agent_toml import Limits
from grapevine_agent.config.firmware import FirmwareProfile, device_limits, load_profile, sized
from grapevine_agent.config.profile_files import profile_names
from grapevine_agent.core.learning.encodings import Encodings
from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES
from grapevine_agent.core.learning.pace import vectors_bytes
from grapevine_agent.core.tasks.deadlines import TaskWork, pace_reason, work_of
from grapevine_agent.core.tasks.fitting import memory_reason, reasons_not_to_fit, trainer_mb
from grapevine_agent.merge.plan import check_merge_plan, form_of_updates
from grapevine_agent.requests.cost_warnings import warnings_of
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_tasks.checks import TO_LOOK_AT, CheckReport, MemoryEstimate, Work, check_manifest, estimate_memory
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.sizes import TensorType

ENVELOPE_BYTES: Final = 6_000  # topic, signature, header and up to 64 contributions
EXAMPLE_MEMBERS: Final = 10  # that the bytes of a round are given for


@dataclass(frozen=True, kw_only=True)
class ProfileFit:
    """Whether a task can be trained on a device of a profile; `reasons` say why not."""

    profile: str
    reasons: tuple[str, ...]
    allowed_mb: int  # of a trainer process
    step_s: float | None  # a training step, about; None where the profile does not say how fast it is
    round_s: float | None  # likewise: all steps of a round, and an evaluation
    evaluation_s: float | None  # likewise: of the fewest samples that are held out
    fits_from_mb: int = 0  # of memory that the board is sold with, where it does not fit the smallest; 0: with none

    @property
    def fits(self) -> bool:
        """Whether nothing is in the way."""
        return not self.reasons


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """What a task costs: bytes, floating-point operations. Of a step: with the batch that the task names."""

    name: str
    num_parameters: int
    num_buffers: int  # numbers, not tensors
    num_nodes: int  # of both graphs
    operators: Mapping[str, int]  # of the train graph: how often each occurs, most frequent first
    manifest_bytes: int
    weights_bytes: int
    encodings: tuple[str, ...]  # that members may write it in
    update_bytes: int  # what a member sends at a time, about, in the smallest of them
    round_bytes: int  # what one of `EXAMPLE_MEMBERS` members sends in a round, without a server
    flops_per_sample: int  # to use the model
    step_flops: int  # of a training step
    step_bytes_moved: int  # likewise: read and written
    step_kernels: int  # likewise: started one after the other
    evaluation_samples: int  # the fewest that are held out
    evaluation_flops: int  # of all of them
    evaluation_bytes_moved: int
    evaluation_kernels: int
    largest_value_bytes: int  # of one value, in a training step
    batch_size: int
    memory: MemoryEstimate
    trainer_mb: int  # what a trainer process takes in all, about
    fits: tuple[ProfileFit, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        plain = asdict(self)
        plain["memory"]["peak_bytes"] = self.memory.peak_bytes
        plain["fits"] = [{**asdict(fit), "reasons": list(fit.reasons), "fits": fit.fits} for fit in self.fits]
        plain["warnings"] = list(self.warnings)
        return plain


def cost_report(manifest: TaskManifest, profiles: Sequence[FirmwareProfile] | None = None) -> CostReport:
    """What this task costs, and how it fits these profiles (by default all that ship with Grapevine).

    Raises TaskError when the manifest is unsound; being too large is a reason not to fit, and no error.
    """
    checked = check_manifest(manifest, check_merging=check_merge_plan, limits=TO_LOOK_AT)
    memory = estimate_memory(manifest.program, checked, manifest.training)
    batch = manifest.training.batch_size
    work = work_of(manifest, checked)
    update = update_bytes(manifest)
    sends = manifest.merging.sends_per_round * SEND_RATE_POLICIES[manifest.merging.send_rate](EXAMPLE_MEMBERS)
    chosen = [load_profile(name) for name in profile_names()] if profiles is None else profiles
    return CostReport(
        name=manifest.name,
        num_parameters=checked.num_parameters,
        num_buffers=checked.num_buffers,
        num_nodes=checked.num_nodes,
        operators=dict(sorted(checked.operators.items(), key=lambda item: (-item[1], item[0]))),
        manifest_bytes=len(encode_manifest(manifest)),
        weights_bytes=manifest.initial_weights.num_bytes,
        encodings=manifest.merging.encodings,
        update_bytes=update,
        round_bytes=round(sends * (update + ENVELOPE_BYTES)),
        flops_per_sample=checked.flops_per_sample,
        step_flops=work.step.flops,
        step_bytes_moved=work.step.bytes_moved,
        step_kernels=work.step.num_kernels,
        evaluation_samples=work.num_evaluated,
        evaluation_flops=work.evaluation.flops,
        evaluation_bytes_moved=work.evaluation.bytes_moved,
        evaluation_kernels=work.evaluation.num_kernels,
        largest_value_bytes=_largest_value(checked, batch),
        batch_size=batch,
        memory=memory,
        trainer_mb=trainer_mb(manifest.data, memory),
        fits=tuple(_fit_by_size(manifest, profile, memory, work) for profile in chosen),
        warnings=tuple(warnings_of(manifest, update + ENVELOPE_BYTES, trainer_mb(manifest.data, memory))),
    )


def update_bytes(manifest: TaskManifest) -> int:
    """The size of a member's update, without what is around it, in the smallest encoding that the task allows."""
    layout, plan = ModelLayout.of(manifest.program), manifest.merging
    return round(vectors_bytes(layout, form_of_updates(plan), Encodings.of(plan)))


def _fit_by_size(
    manifest: TaskManifest, profile: FirmwareProfile, memory: MemoryEstimate, work: TaskWork
) -> ProfileFit:
    """How it fits the profile, and if not, with how much memory it would."""
    fit = _fit(manifest, profile, memory, work)
    if fit.fits:
        return fit
    fitting = (size for size in profile.sizes if _fit(manifest, sized(profile, size), memory, work).fits)
    return replace(fit, fits_from_mb=next((size.ram_mb for size in fitting), 0))


def _fit(manifest: TaskManifest, profile: FirmwareProfile, memory: MemoryEstimate, work: TaskWork) -> ProfileFit:
    cannot_train = "" if profile.can_train else "does not train"
    reasons = reasons_not_to_fit(manifest, device_limits(profile, cannot_train=cannot_train))
    found = (
        memory_reason(manifest, memory, profile.memory_mb),
        pace_reason(work, manifest.training, profile.pace, Limits.step_timeout_s),
    )
    too_much = [reason for reason in found if reason] if profile.can_train else []

    def seconds(needed: Work) -> float | None:
        return profile.pace.seconds(needed) if profile.gflops else None

    return ProfileFit(
        profile=profile.name,
        reasons=(*reasons, *too_much),
        allowed_mb=profile.memory_mb,
        step_s=seconds(work.step),
        round_s=seconds(work.training + work.evaluation),
        evaluation_s=seconds(work.evaluation),
    )


def _largest_value(checked: CheckReport, batch: int) -> int:
    return max(value.bytes_at(batch) for value in checked.train_values if isinstance(value, TensorType))
