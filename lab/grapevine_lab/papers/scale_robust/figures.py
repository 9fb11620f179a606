"""Figs. 3 and 4 by the simulator's agents, the speed-up with n, and what the draw of the data does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from grapevine_lab.papers.report import Table, decimals
from grapevine_lab.papers.scale_robust import algorithm
from grapevine_lab.papers.scale_robust.algorithm import Learning
from grapevine_lab.papers.scale_robust.runs import RATES, Setting, Task, loss_curve
from grapevine_lab.simulator.datasets import DatasetPlan
from grapevine_lab.simulator.plots import Curve, Panel, draw_grid

SIZES = (10, 50, 100)
QUICK_SIZES = (5, 10, 20)
STEP = {"linear": 0.02, "nonlinear": 0.05}  # α, as the tasks have it
GROWING_STEP = 0.0005  # α/n, where α grows with n
SAMPLES_PER_USER = 100


def draw_figure(task: Task, *, like_n: bool, quick: bool, out: Path, say: Callable[[str], None]) -> Table:
    """One figure: a panel for each scaling of the send rate, a curve for each n. m = n if `like_n`, else 1."""
    sizes, duration_s = (QUICK_SIZES, 10.0) if quick else (SIZES, 40.0)
    panels: list[Panel | None] = []
    m = "n" if like_n else "1"
    table = Table(
        title=f"{task}, m = {m}: loss as a share of the loss at the start, agents (plain Algorithm 1)",
        head=("λ", *(f"n = {n}, t = {t:g} s" for n in sizes for t in (duration_s / 4, duration_s))),
    )
    for name, rate in RATES.items():
        curves: dict[str, Curve] = {}
        row: list[str] = [name]
        for n in sizes:
            say(f"{task}, m = {m}, {name}, n = {n}")
            setting = Setting(
                task=task, num_nodes=n, send_rate=rate(n), num_distributions=n if like_n else 1, duration_s=duration_s
            )
            curves[f"n = {n}"] = curve = loss_curve(setting)
            plain = plain_curve(setting)
            row += [
                f"{decimals(_at(curve, t), 3)} ({decimals(_at(plain, t), 3)})" for t in (duration_s / 4, duration_s)
            ]
        table.rows.append(row)
        panels.append(Panel(curves=curves, title=f"λ ~ {name}", x_label="time", y_label="average loss (start = 1)"))
    stem = f"{'fig3' if task == 'linear' else 'fig4'}-{task}-m-{'n' if like_n else '1'}"
    draw_grid(
        [panels],
        out / stem,
        title=f"{task.replace('nonlinear', 'non-linear')} regression, m = {m}".capitalize(),
        subtitle="mean over users' models, on all users' distributions; agents of the simulator, one run each",
        share_y="row",
    )
    return table


def plain_curve(setting: Setting, *, like_agents: bool = False) -> Curve:
    """The same setting by plain Algorithm 1; `like_agents`: by what agents send, and when (see `Learning`)."""
    learning = Learning(
        plan=_plan(setting.task, setting.num_nodes, setting.num_distributions, setting.seed),
        send_rate=setting.send_rate,
        learning_rate=setting.learning_rate or STEP[setting.task],
        batch_size=setting.batch_size if setting.batch_size < SAMPLES_PER_USER else 0,
        like_agents=like_agents,
    )
    found = algorithm.run(learning, duration_s=setting.duration_s, seed=setting.seed)
    mean = found.loss / found.loss[0]
    return Curve(x=found.times_s, median=mean, low=mean, high=mean)


def measure_speedup(*, quick: bool, out: Path, say: Callable[[str], None]) -> list[Table]:
    """How long until the loss is half of what it was: the same step for all n, and one that grows with n."""
    return [_same_step(quick=quick), _growing_step(quick=quick, out=out, say=say)]


def _same_step(*, quick: bool) -> Table:
    sizes, num_draws = (QUICK_SIZES, 3) if quick else (SIZES, 10)
    table = Table(
        title="Linear, m = 1, one step size for all n: loss at t = 20 as a share of that at the start, "
        f"mean ± σ of {num_draws} draws (plain Algorithm 1)",
        head=("gradient", "λ", *(f"n = {n}" for n in sizes)),
    )
    for batch_size, learning_rate in ((1, 0.02), (SAMPLES_PER_USER, 0.005)):
        what = "all samples" if batch_size > 1 else "one sample"
        for name, rate in RATES.items():
            row = [f"{what}, α = {learning_rate:g}", name]
            for n in sizes:
                finals = [
                    plain_curve(
                        Setting(
                            task="linear",
                            num_nodes=n,
                            send_rate=rate(n),
                            duration_s=20.0,
                            learning_rate=learning_rate,
                            batch_size=batch_size,
                            seed=seed,
                        )
                    ).median[-1]
                    for seed in range(num_draws)
                ]
                row.append(f"{np.mean(finals):.3f} ± {np.std(finals):.3f}")
            table.rows.append(row)
    return table


def _growing_step(*, quick: bool, out: Path, say: Callable[[str], None]) -> Table:
    sizes = (4, 8, 16) if quick else (5, 10, 20, 40, 80)
    seeds = range(1 if quick else 3)
    table = Table(
        title="Linear, m = 1, λ ~ Θ(log n), one sample, α = 0.0005·n: time until the loss is half, in s (agents)",
        head=("n", "α", "time", "speed-up over the first", "n over the first n"),
    )
    curves, first_s = {}, 0.0
    for n in sizes:
        say(f"speed-up, n = {n}")
        times = []
        for seed in seeds:
            setting = Setting(
                task="linear",
                num_nodes=n,
                send_rate=RATES["Θ(log n)"](n),
                learning_rate=GROWING_STEP * n,
                duration_s=round(30.0 + 400.0 / n),
                seed=seed,
            )
            curve = loss_curve(setting)
            times.append(time_to(curve, 0.5))
        curves[f"n = {n}"] = curve
        half_s = float(np.mean(times))
        first_s = first_s or half_s
        table.rows.append(
            [str(n), f"{GROWING_STEP * n:g}", f"{half_s:.1f}", f"{first_s / half_s:.1f}", f"{n / sizes[0]:g}"]
        )
    panel = Panel(curves=curves, x_label="time", y_label="average loss (start = 1)", log_y=True)
    draw_grid([[panel]], out / "speed-up", title="Steps that grow with n: linear regression, α = 0.0005·n")
    return table


def measure_draws(*, quick: bool) -> Table:
    """Non-linear, m = n: what n and the send rate do, and what the draw of the users' distributions does."""
    sizes, num_draws = (QUICK_SIZES, 3) if quick else (SIZES, 20)
    duration_s = 10.0 if quick else 40.0
    table = Table(
        title=f"Non-linear, m = n: loss at the end as a share of that at the start, mean ± σ of {num_draws} draws; "
        "in parentheses what of it the mean model does not have (plain Algorithm 1)",
        head=("λ", *(f"n = {n}" for n in sizes)),
    )
    for factor, words in ((1.0, ""), (0.1, ", a tenth of it")):
        for name, rate in RATES.items():
            row = [name + words]
            for n in sizes:
                finals, apart = [], []
                for seed in range(num_draws):
                    learning = Learning(
                        plan=_plan("nonlinear", n, n, seed),
                        send_rate=factor * rate(n),
                        learning_rate=STEP["nonlinear"],
                    )
                    curve = algorithm.run(learning, duration_s=duration_s, seed=seed)
                    finals.append(curve.loss[-1] / curve.loss[0])
                    half = len(curve.loss) // 2
                    apart.append(np.mean(curve.loss[half:] - curve.of_mean[half:]) / curve.loss[0])
                row.append(f"{np.mean(finals):.3f} ± {np.std(finals):.3f} ({np.mean(apart):.4f})")
            table.rows.append(row)
    return table


def agents_draws(*, quick: bool, say: Callable[[str], None]) -> Table:
    """The same by the simulator's agents, of whom nobody sends before it has trained: the start differs."""
    sizes, num_draws = (QUICK_SIZES[:2], 2) if quick else (SIZES, 6)
    moments_s = (3.0, 11.0)
    table = Table(
        title=f"Non-linear, m = n: loss as a share of that at the start, mean ± σ of {num_draws} draws (agents)",
        head=("λ", *(f"n = {n}, t = {t:g} s" for n in sizes for t in moments_s)),
    )
    for name in ("Θ(1)", "Θ(log n)"):
        row = [name]
        for n in sizes:
            say(f"draws, agents, {name}, n = {n}")
            rate = RATES[name](n)
            setting = Setting(task="nonlinear", num_nodes=n, num_distributions=n, send_rate=rate, duration_s=12.0)
            curves = [loss_curve(replace(setting, seed=seed)) for seed in range(num_draws)]
            for t in moments_s:
                values = [_at(curve, t) for curve in curves]
                row.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
        table.rows.append(row)
    return table


def time_to(curve: Curve, share: float) -> float:
    """When a curve first comes down to so much, interpolated; NaN where it never does."""
    below = np.flatnonzero(curve.median <= share)
    if not len(below):
        return float("nan")
    k = int(below[0])
    if k == 0:
        return float(curve.x[0])
    x, y = curve.x[k - 1 : k + 1], curve.median[k - 1 : k + 1]
    return float(x[0] + (y[0] - share) / (y[0] - y[1]) * (x[1] - x[0]))


def _plan(task: Task, num_nodes: int, num_distributions: int, seed: int) -> DatasetPlan:
    return DatasetPlan(
        name=f"{task}-regression",
        seed=seed,
        num_users=num_nodes,
        num_distributions=num_distributions,
        samples_per_user=SAMPLES_PER_USER,
    )


def _at(curve: Curve, time_s: float) -> float:
    """A curve's value at a moment."""
    return float(np.interp(time_s, curve.x, curve.median))
