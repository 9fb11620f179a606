"""The figures of a device as families of Prometheus metrics, and as the text that Prometheus reads.

This module alone imports prometheus-client, and is imported only where the owner asks for metrics. Names begin with
`grapevine_` and carry their base unit; what only grows ends with `_total`
(https://prometheus.io/docs/practices/naming/). What was not measured has no sample: a number that stands for nothing
would be taken for one. Labels are of what there is a bounded number of: tasks that are joined, brokers, reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from grapevine_agent.service.figures import Figures, TaskFigures

TASK_LABELS: Final = ("task", "name")


def render(figures: Figures, version: str, accept: str) -> tuple[bytes, str]:
    """The page, and its content type: OpenMetrics where the `Accept` header asks for it, else plain text."""
    snapshot = _Snapshot(figures, version)
    try:
        encode, content_type = choose_encoder(accept)
        return encode(snapshot), content_type
    except Exception:  # prometheus-client trusts the header: `version=x` there is a TypeError
        return generate_latest(snapshot), CONTENT_TYPE_PLAIN_0_0_4


class _Snapshot(Collector):
    def __init__(self, figures: Figures, version: str) -> None:
        self._figures = figures
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield from families(self._figures, self._version)
        yield from _PROCESS.collect()


_PROCESS: Final = ProcessCollector(registry=None)  # memory, CPU time and files of the service, as everywhere


def families(figures: Figures, version: str) -> Iterator[Metric]:
    """All but those of the process."""
    yield InfoMetricFamily(
        "grapevine_agent",
        "Who this agent is.",
        value={
            "peer": figures.peer,
            "name": figures.name,
            "role": figures.role,
            "profile": figures.profile,
            "version": version,
        },
    )
    yield _gauge("grapevine_uptime_seconds", "Time since the service started.", figures.uptime_s, unit="seconds")
    yield _gauge(
        "grapevine_event_loop_longest_stop_seconds",
        "For how long the event loop stood at most, in the last ten minutes.",
        figures.longest_stop_s,
        unit="seconds",
    )
    yield _gauge("grapevine_asleep", "Whether the device sleeps, and is at no broker.", figures.is_asleep)
    yield _gauge("grapevine_peers_known", "Peers that have been heard of.", figures.num_known)
    yield _gauge("grapevine_peers_alive", "Peers that can be counted on now.", figures.num_alive)
    yield _gauge("grapevine_peers_asleep", "Peers that sleep.", figures.num_asleep)
    yield _gauge("grapevine_tasks_known", "Tasks that have been heard of.", figures.num_tasks_known)
    yield _gauge("grapevine_tasks_joined", "Tasks that this device takes part in.", len(figures.tasks))
    yield _gauge("grapevine_not_saved", "Kinds of state that the disk does not take.", len(figures.not_saved))
    rejected = CounterMetricFamily(
        "grapevine_messages_rejected", "Messages that were dropped, by the reason.", labels=["reason"]
    )
    for reason, count in sorted(figures.rejected.items()):
        rejected.add_metric([reason], count)
    yield rejected
    events = CounterMetricFamily(
        "grapevine_events", "What has happened, by its kind (docs/events.md).", labels=["kind"]
    )
    for kind, count in sorted(figures.events.items()):
        events.add_metric([kind], count)
    yield events
    yield from _of_brokers(figures)
    yield from _governed(figures)
    yield from _of_tasks(figures.tasks)


def _of_brokers(figures: Figures) -> Iterator[Metric]:
    connected = GaugeMetricFamily("grapevine_broker_connected", "Whether a broker has us.", labels=["broker"])
    peers = GaugeMetricFamily("grapevine_broker_peers", "Peers that are there, as a broker says.", labels=["broker"])
    waiting = GaugeMetricFamily("grapevine_broker_publishes_waiting", "Publishes that wait.", labels=["broker"])
    delay = GaugeMetricFamily(
        "grapevine_broker_delay_seconds",
        "What an acknowledgement takes, a moving mean.",
        labels=["broker"],
        unit="seconds",
    )
    for url, each in {broker.url: broker for broker in figures.brokers}.items():
        connected.add_metric([url], each.is_connected)
        peers.add_metric([url], each.num_peers)
        waiting.add_metric([url], each.num_waiting)
        if each.delay_s is not None:
            delay.add_metric([url], each.delay_s)
    yield from (connected, peers, waiting, delay)


def _governed(figures: Figures) -> Iterator[Metric]:
    governed = figures.governed
    yield _gauge("grapevine_paused", "Whether learning is paused.", governed.is_paused)
    limited = GaugeMetricFamily("grapevine_limited", "Which limit pauses or slows learning.", labels=["limit"])
    if governed.limit:
        limited.add_metric([governed.limit], 1)
    yield limited
    if governed.temperature_c is not None:
        yield _gauge("grapevine_temperature_celsius", "Of the device.", governed.temperature_c, unit="celsius")
    if governed.energy_j_today is not None:
        yield _gauge(
            "grapevine_energy_today_joules", "Drawn by training today.", governed.energy_j_today, unit="joules"
        )
    yield _gauge("grapevine_sent_today_bytes", "Sent to peers today.", governed.bytes_today, unit="bytes")


def _of_tasks(tasks: tuple[TaskFigures, ...]) -> Iterator[Metric]:
    info = InfoMetricFamily("grapevine_task", "A task that this device takes part in.", labels=TASK_LABELS)
    for task in tasks:
        more = {"version": str(task.version), "strategy": task.strategy, "role": task.role, "publisher": task.publisher}
        info.add_metric([task.key, task.name], more)
    yield info
    gauges: tuple[tuple[str, str, str, str], ...] = (
        ("age", "grapevine_task_model_age_steps", "Optimiser steps that are in the model.", "steps"),
        ("round", "grapevine_task_round", "The round that the model is in.", ""),
        ("loss", "grapevine_task_loss", "Loss of the last training step.", ""),
        ("num_peers", "grapevine_task_peers", "Other members that can be counted on now.", ""),
        ("staleness", "grapevine_task_staleness_rounds", "Rounds of others that are missing here, mean.", "rounds"),
        ("is_resting", "grapevine_task_resting", "Whether a finished task is at rest.", ""),
    )
    for field, name, said, unit in gauges:
        yield _by_task(GaugeMetricFamily(name, said, labels=TASK_LABELS, unit=unit), tasks, field)
    figures = (
        ("metric", "grapevine_task_metric", "The task's metric on this device's held-out samples."),
        ("best_metric", "grapevine_task_best_metric", "The same of the best model so far."),
        ("baseline", "grapevine_task_baseline", "The same without any learning."),
    )
    for field, name, said in figures:
        family = GaugeMetricFamily(name, said, labels=(*TASK_LABELS, "metric"))
        for task in tasks:
            if (value := getattr(task, field)) is not None:
                family.add_metric([task.key, task.name, task.metric_name], value)
        yield family
    counters = (
        ("num_sent", "grapevine_task_updates_sent", "Updates that were sent since the task was joined.", ""),
        ("num_merged", "grapevine_task_updates_merged", "Updates of others that were merged since then.", ""),
        ("energy_j", "grapevine_task_energy_joules", "What training has drawn since then.", "joules"),
    )
    for field, name, said, unit in counters:
        yield _by_task(CounterMetricFamily(name, said, labels=TASK_LABELS, unit=unit), tasks, field)
    yield from _served(tasks)


def _served(tasks: tuple[TaskFigures, ...]) -> Iterator[Metric]:
    """What a server tells of the tasks that it aggregates."""
    gauges: tuple[tuple[str, str, str, str], ...] = (
        ("model_version", "grapevine_server_model_version", "The number of the newest model.", ""),
        ("num_members", "grapevine_server_members", "Members whose updates are in the newest model.", ""),
        ("num_clusters", "grapevine_server_clusters", "Models that there are at a time, one a cluster.", ""),
        ("held_bytes", "grapevine_server_held_bytes", "Models, sums and bases that are held.", "bytes"),
        (
            "since_published_s",
            "grapevine_server_since_published_seconds",
            "Time since the newest model was published.",
            "seconds",
        ),
    )
    for field, name, said, unit in gauges:
        yield _by_task(GaugeMetricFamily(name, said, labels=TASK_LABELS, unit=unit), tasks, field, of_server=True)
    said = "Updates of members that were folded in since the task was joined."
    folded = CounterMetricFamily("grapevine_server_updates_folded", said, labels=TASK_LABELS)
    yield _by_task(folded, tasks, "num_folded", of_server=True)
    said = "Updates of members that were refused since then, by the reason."
    refused = CounterMetricFamily("grapevine_server_updates_refused", said, labels=(*TASK_LABELS, "reason"))
    for task in tasks:
        for reason, count in sorted(task.served.refused.items() if task.served is not None else ()):
            refused.add_metric([task.key, task.name, reason], count)
    yield refused


def _by_task(
    family: GaugeMetricFamily | CounterMetricFamily,
    tasks: tuple[TaskFigures, ...],
    field: str,
    *,
    of_server: bool = False,
) -> GaugeMetricFamily | CounterMetricFamily:
    for task in tasks:
        told = task.served if of_server else task
        if told is not None and (value := getattr(told, field)) is not None:
            family.add_metric([task.key, task.name], float(value))
    return family


def _gauge(name: str, said: str, value: float, *, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(name, said, value=float(value), unit=unit)
