"""All benchmarks, each run in a process of its own.

What one benchmark leaves behind in the allocator changes what the next one measures: a process that
has had large arrays gets the memory for a model without asking the kernel, a fresh agent does not.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from rich.console import Console

from grapevine_lab.bench import (
    build_time,
    command_start,
    dashboard,
    data_sources,
    device,
    embedded_broker,
    encodings,
    far_broker,
    joining,
    judging,
    large_task,
    loop_stops,
    memory_estimate,
    merging,
    sample_memory,
    server_folding,
    servers_together,
    service,
    strangers,
    strategies,
    ticks,
    time_estimate,
    training_step,
    training_throughput,
    transfers,
    updates,
)
from grapevine_lab.bench.figures import Benchmark, Finding, Skipped
from grapevine_lab.kept_tables import named
from grapevine_proto.errors import GrapevineError

BENCHMARKS = (
    Benchmark(names=(service.MEMORY, service.IDLE_CPU), run=service.run, missing=service.missing),
    Benchmark(names=(service.MEMORY_OF_MANY,), run=service.run_many, missing=service.missing),
    Benchmark(names=(device.IDLE,), run=device.run_idle, missing=device.missing),
    Benchmark(names=(device.LEARNING,), run=device.run_learning, missing=device.missing_for_learning),
    Benchmark(names=(command_start.NAME,), run=command_start.run, missing=command_start.missing),
    Benchmark(names=(dashboard.NAME,), run=dashboard.run, missing=dashboard.missing),
    Benchmark(names=(embedded_broker.NAME,), run=embedded_broker.run, missing=embedded_broker.missing),
    Benchmark(names=(strangers.MEMORY, strangers.START), run=strangers.run, missing=strangers.missing),
    Benchmark(names=(ticks.NAME,), run=ticks.run, missing=ticks.missing),
    Benchmark(names=(joining.NAME,), run=joining.run, missing=joining.missing),
    Benchmark(names=(loop_stops.NAME,), run=loop_stops.run, missing=loop_stops.missing),
    Benchmark(names=(updates.NAME,), run=updates.run, missing=updates.missing),
    Benchmark(names=(servers_together.NAME,), run=servers_together.run, missing=servers_together.missing),
    Benchmark(names=(far_broker.NAME,), run=far_broker.run, missing=far_broker.missing),
    Benchmark(names=(large_task.NAME,), run=large_task.run, missing=large_task.missing),
    Benchmark(names=(transfers.NAME,), run=transfers.run, missing=transfers.missing),
    Benchmark(names=(merging.NAME,), run=merging.run, missing=merging.missing),
    Benchmark(names=(judging.NAME,), run=judging.run, missing=judging.missing),
    Benchmark(names=(strategies.NAME,), run=strategies.run, missing=strategies.missing),
    Benchmark(names=(server_folding.NAME,), run=server_folding.run, missing=server_folding.missing),
    Benchmark(names=(training_step.NAME,), run=training_step.run, missing=training_step.missing),
    Benchmark(
        names=(training_throughput.NAME, training_throughput.EVALUATION),
        run=training_throughput.run,
        missing=training_throughput.missing,
    ),
    Benchmark(names=(encodings.NAME,), run=encodings.run, missing=encodings.missing),
    Benchmark(names=(memory_estimate.NAME,), run=memory_estimate.run, missing=memory_estimate.missing),
    Benchmark(names=(build_time.NAME,), run=build_time.run, missing=build_time.missing),
    Benchmark(names=(time_estimate.NAME,), run=time_estimate.run, missing=time_estimate.missing),
    Benchmark(names=(data_sources.NAME,), run=data_sources.run, missing=data_sources.missing),
    Benchmark(names=(sample_memory.NAME,), run=sample_memory.run, missing=sample_memory.missing),
)
NAMES = tuple(name for benchmark in BENCHMARKS for name in benchmark.names)


def names_of(given: Sequence[str]) -> list[str]:
    """The benchmarks of these names; a file's name, as `service`, stands for all in it. Raises BadParameter."""
    files: dict[str, tuple[str, ...]] = {}
    for benchmark in BENCHMARKS:
        file = benchmark.run.__module__.rpartition(".")[2]
        files[file] = files.get(file, ()) + benchmark.names
    chosen = named("--only", given, dict.fromkeys([*NAMES, *files]))
    return [name for each in chosen for name in ([each] if each in NAMES else files[each])]


def measure(wanted: Sequence[str]) -> list[Finding]:
    """Run the benchmarks of these names, one after the other, and say on stderr what goes on."""
    findings: list[Finding] = []
    for index, benchmark in enumerate(BENCHMARKS):
        names = tuple(name for name in benchmark.names if name in wanted)
        if names:
            findings += _in_a_process(index, names)
    return findings


def _in_a_process(index: int, names: tuple[str, ...]) -> list[Finding]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_run, index, names).result()
        except BrokenProcessPool:
            return [Skipped(name=name, reason="its process was killed", failed=True) for name in names]


def _run(index: int, names: tuple[str, ...]) -> list[Finding]:
    benchmark, title = BENCHMARKS[index], ", ".join(names)
    if reason := benchmark.missing():
        return [Skipped(name=name, reason=reason) for name in names]
    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        found = benchmark.run(lambda text: messages.print(f"{title}: {text}", markup=False))
    except GrapevineError as error:
        return [Skipped(name=name, reason=str(error), failed=True) for name in names]
    return [each for each in found if each.name in names]
