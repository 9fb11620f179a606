"""A manifest as a whole: names out of the closed sets, numbers in range, parts that fit each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from grapevine_proto.encoding import ENCODINGS, PLAIN
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import MergePlan, TaskManifest
from grapevine_proto.program import Program
from grapevine_tasks.checks.contract import check_contract
from grapevine_tasks.checks.fields import in_range, one_of
from grapevine_tasks.checks.program import check_program
from grapevine_tasks.checks.report import TO_LOOK_AT, CheckReport, ProgramLimits
from grapevine_tasks.checks.training import check_fit, check_training
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.pipelines import fewest_samples

UPDATE_FORMS = ("full", "delta")
STALE = ("discount", "refuse")
EXCHANGES = ("push", "push-pull")
SEND_RATES = ("log-n", "log-log-n", "constant", "linear", "token-account", "every-round")


def check_manifest(
    manifest: TaskManifest, *, check_merging: Callable[[MergePlan], None], limits: ProgramLimits | None = None
) -> CheckReport:
    """Check everything that can be known of a task without fetching its weights or running it.

    Args:
        manifest: As decoded, or as an engineer is about to publish it.
        check_merging: Raises TaskError for strategies and constants that the agent's merge tables do not
            have: the tasks know nothing of them.
        limits: What the device is ready to run; its largest and smallest batches are replaced by the task's: a
            device with fewer samples than a batch trains on all of them at once.

    Raises:
        TaskError: With the field, its value and what to write instead.
    """
    check_training(manifest.training)
    _check_merging(manifest.merging)
    check_merging(manifest.merging)
    check_contract(manifest.data)
    if manifest.version < 1:
        raise FieldTaskError("task.version", f"version is {manifest.version}; versions start at 1")
    if manifest.expires_at_ms and manifest.expires_at_ms <= manifest.created_at_ms:
        raise TaskError("the task expires before it was created: set expires_at_ms later, or to 0 for never")
    in_range("requirements.memory_mb", manifest.requirements.memory_mb, 0, 2**20)
    in_range("requirements.cores", manifest.requirements.cores, 0, 1024)
    batch = manifest.training.batch_size
    smallest = min(batch, fewest_samples(manifest.data)[0])
    limits = replace(limits or ProgramLimits(), largest_batch=batch, smallest_batch=smallest)
    report = check_program(manifest.program, limits)
    check_fit(manifest, report.output_type)
    payload = 4 * (report.num_parameters + report.num_buffers)
    header = 4096 + 400 * (len(manifest.program.parameters) + len(manifest.program.buffers))
    in_range("initial_weights.num_bytes", manifest.initial_weights.num_bytes, payload, payload + header)
    return report


def check_few_samples(program: Program, *, batch_size: int, num_samples: int) -> None:
    """Raise TaskError when a device with so few samples to train on could only fail: all its batches are of these.

    A contract's `minimum_samples` promises more; gaps in a series can leave fewer.
    """
    if num_samples >= batch_size:
        return
    limits = replace(TO_LOOK_AT, largest_batch=batch_size, smallest_batch=num_samples)
    try:
        check_program(program, limits)
    except TaskError as error:
        few = "a single sample is" if num_samples == 1 else f"{num_samples} samples are"
        raise TaskError(f"{few} left to train on, which this model cannot: {error}; offer more samples") from error


def _check_merging(merging: MergePlan) -> None:
    one_of("merging.update_form", merging.update_form, UPDATE_FORMS)
    one_of("merging.send_rate", merging.send_rate, SEND_RATES)
    in_range("merging.sends_per_round", merging.sends_per_round, 0, 1000)
    in_range("merging.gossip_share_with_server", merging.gossip_share_with_server, 0, 1)
    in_range("merging.server_trust_cap", merging.server_trust_cap, 0, 1e6)
    in_range("merging.clip", merging.clip, 0, 1e6)
    in_range("merging.ema", merging.ema, 0, 0.99999)
    in_range("merging.window_rounds", merging.window_rounds, 1, 10_000)
    one_of("merging.exchange", merging.exchange, EXCHANGES)
    if merging.exchange == "push-pull" and merging.send_rate == "every-round":
        raise FieldTaskError(
            "merging.exchange",
            'merging.exchange is "push-pull", and with send_rate = "every-round" all are sent every model already: '
            'write exchange = "push", or another send_rate',
        )
    in_range("merging.stale_after", merging.stale_after, 0, 10**12)
    one_of("merging.stale", merging.stale, STALE)
    for name in merging.encodings:
        one_of("merging.encodings", name, ENCODINGS)
    if len(set(merging.encodings)) != len(merging.encodings) or PLAIN.name not in merging.encodings:
        said = f"merging.encodings is {list(merging.encodings)}; name each once, {PLAIN.name!r} among them"
        raise FieldTaskError("merging.encodings", said)
