"""Figures of a device for tests: one that learns two tasks, and has measured all that there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from grapevine_agent.service.figures import BrokerFigures, Figures, Governed, ServedFigures, TaskFigures

PEER: Final = "muzwdqgh4ryml2augdp7"
DIGITS: Final = TaskFigures(
    id="d8c9fad13b84e31034fed3e7bc08f4218dc752141d71b2dd6131e8284e9b41d6",
    name="Handwritten digits",
    version=1,
    publisher="kspkitkaspia4igzav57",
    strategy="age-weighted",
    role="member",
    age=1_200,
    round=20,
    loss=0.31,
    metric_name="accuracy",
    metric=0.965,
    best_metric=0.97,
    baseline=0.25,
    baseline_name="majority class",
    num_evaluated=100,
    num_peers=2,
    server="reachable",
    num_sent=80,
    num_merged=70,
    staleness=0.5,
    energy_j=120.0,
)
WEATHER: Final = replace(DIGITS, id="3f0c" + "0" * 60, name="Weather", version=2, metric_name="rmse", metric=1.5)
SERVED: Final = TaskFigures(
    id="ee" * 32,
    name="Served",
    version=1,
    publisher="k" * 20,
    strategy="fedavg",
    role="server",
    age=7,
    served=ServedFigures(
        model_version=12,
        num_members=5,
        num_clusters=2,
        num_folded=60,
        refused={"non-finite": 2, "wrong-shape": 1},
        held_bytes=2_100_000,
        since_published_s=3.5,
    ),
)
GOVERNED: Final = Governed(
    temperature_c=51.26, energy_j_today=7_200.0, bytes_today=1_500_000, limit="", until_s=1_800_000_000.0
)
FIGURES: Final = Figures(
    peer=PEER,
    name="kitchen",
    role="member",
    profile="raspberry-pi-4b",
    uptime_s=12.5,
    num_known=4,
    num_alive=3,
    num_asleep=1,
    num_tasks_known=5,
    tasks=(DIGITS, WEATHER),
    brokers=(
        BrokerFigures(
            url="mqtt://hub:1883", is_connected=True, is_found=False, num_peers=3, delay_s=0.004, num_waiting=1
        ),
    ),
    rejected={"replayed": 2},
    events={"merged": 41, "rejected": 2},
    governed=GOVERNED,
)
BARE: Final = replace(FIGURES, tasks=(), brokers=(), rejected={}, events={}, governed=Governed())
