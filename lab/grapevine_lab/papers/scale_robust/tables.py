"""Staleness: Lemma 1, Theorem 1 and Theorem 2 as tables, of the event simulation and of the simulator's agents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from grapevine_agent.core.learning.gossip import SEND_RATE_POLICIES
from grapevine_lab.papers.report import Table, decimals
from grapevine_lab.papers.scale_robust.runs import agents_staleness
from grapevine_lab.papers.scale_robust.staleness import Gossip, Staleness, Told, measure_staleness

POLICIES = ("constant", "log-log-n", "log-n", "linear")
SIZES = (10, 50, 100, 200)
QUICK_SIZES = (5, 20)


def lemma_1(*, quick: bool) -> Table:
    """Measured staleness and its ratio to the bound, for every policy and size."""
    sizes = QUICK_SIZES if quick else SIZES
    table = Table(
        title="Staleness at μ = 1, in versions: measured / Lemma 1's bound = ratio (event simulation)",
        head=("λ", *(f"n = {n}" for n in sizes)),
    )
    for policy in POLICIES:
        row = [f"`{policy}`"]
        for n in sizes:
            gossip = Gossip(num_nodes=n, send_rate=SEND_RATE_POLICIES[policy](n))
            row.append(_ratio(_measured(gossip, quick), gossip.bound))
        table.rows.append(row)
    return table


def circumstances(*, quick: bool) -> Table:
    """Training that takes time, sends that are lost, messages that take time."""
    n = 10 if quick else 50
    table = Table(
        title=f"Other circumstances, n = {n}, λ = ln n (event simulation)",
        head=("", "measured", "Lemma 1 with μ = 1 and λ", "with 1/(c + 1/μ) and (1 − loss)·λ", "measured / the latter"),
    )
    base = Gossip(num_nodes=n, send_rate=math.log(n))
    for name, gossip in (
        ("as in Lemma 1", base),
        ("training takes c = 0.5", replace(base, training_s=0.5)),
        ("training takes c = 2", replace(base, training_s=2.0)),
        ("training takes c = 2, wait of 0.02: almost regular", replace(base, training_s=2.0, update_rate=50.0)),
        ("10 % of the sends are lost", replace(base, loss=0.1)),
        ("50 % of the sends are lost", replace(base, loss=0.5)),
        ("c = 2 and 50 % lost", replace(base, training_s=2.0, loss=0.5)),
        ("a message takes 0.1", replace(base, latency_s=0.1)),
        ("a message takes 0.5", replace(base, latency_s=0.5)),
    ):
        found = _measured(gossip, quick)
        table.rows.append(
            [
                name,
                _value(found),
                decimals(base.bound),
                decimals(gossip.bound),
                decimals(found.mean / gossip.bound),
            ]
        )
    return table


def theorem_2(*, quick: bool) -> list[Table]:
    """Opportunistic and random sends, relays counting and not."""
    sizes = QUICK_SIZES if quick else (10, 50, 100)
    tables = []
    for scaling, rate in (("ln n", math.log), ("n", float)):
        table = Table(
            title=f"Theorem 2 at λ = {scaling}, μ = 1, c = 0 (event simulation)",
            head=("sends", "relays", *(f"n = {n}" for n in sizes)),
        )
        for opportunistic in (False, True):
            for relays_count in (True, False):
                row = ["opportunistic" if opportunistic else "random", "count" if relays_count else "do not count"]
                for n in sizes:
                    gossip = Gossip(
                        num_nodes=n, send_rate=rate(n), opportunistic=opportunistic, relays_count=relays_count
                    )
                    row.append(_value(_measured(gossip, quick)))
                table.rows.append(row)
        plain = [Gossip(num_nodes=n, send_rate=rate(n)) for n in sizes]
        table.rows += [
            ["(n − 1)·μ/λ: exact where relays do not count", "", *(decimals(each.first_hand_bound) for each in plain)],
            ["1/(e^x − 1): eq. 14's fixed point", "", *(decimals(each.corrected_bound) for each in plain)],
            ["1/(1 − e^−x): eq. 15 as printed", "", *(decimals(each.printed_bound) for each in plain)],
        ]
        tables.append(table)
    return tables


def of_agents(*, quick: bool, say: Callable[[str], None]) -> Table:
    """The simulator's agents beside the event simulation."""
    sizes = QUICK_SIZES if quick else SIZES
    table = Table(
        title="Agents in the simulator: staleness / Lemma 1's bound with their measured update rate = ratio",
        head=("policy", *(f"n = {n}" for n in sizes)),
    )
    settings: list[tuple[str, str, tuple[str, ...], float]] = [
        ("`constant`", "constant", (), 0.0),
        ("`log-log-n`", "log-log-n", (), 0.0),
        ("`log-n`", "log-n", (), 0.0),
        ("`log-n`, training always takes 2 s", "log-n", ("nodes.training_time=fixed", "nodes.step_s=2.0"), 0.0),
        ("`log-n`, 50 % of the messages lost", "log-n", (), 0.5),
    ]
    for name, policy, changes, loss in settings:
        row = [name]
        for n in sizes:
            say(f"agents, {name}, n = {n}")
            found = agents_staleness(
                num_nodes=n, policy=policy, duration_s=60.0 if n >= 100 else 150.0, changes=changes, loss=loss
            )
            row.append(f"{found.mean:.2f} / {found.bound:.2f} = {found.mean / found.bound:.2f}")
        table.rows.append(row)
    return table


def what_is_told(*, quick: bool) -> Table:
    """An update names a bounded number of other sources: which ones it should name."""
    sizes, most = ((20,), 8) if quick else ((100, 200), 64)
    table = Table(
        title=f"Staleness where a send names {most} other sources at most, λ = ln n (event simulation)",
        head=("named", *(f"n = {n}" for n in sizes)),
    )
    choices: tuple[tuple[str, int, Told], ...] = (
        ("all", 0, "highest"),
        ("those that were news last", most, "latest"),
        ("drawn at random", most, "random"),
        ("those of the highest version numbers", most, "highest"),
    )
    for name, max_told, told in choices:
        row = [name]
        for n in sizes:
            gossip = Gossip(num_nodes=n, send_rate=math.log(n), max_told=max_told, told=told)
            row.append(_value(_measured(gossip, quick)))
        table.rows.append(row)
    return table


def _measured(gossip: Gossip, quick: bool) -> Staleness:
    # The longer the fewer nodes there are to average over, and many times what it takes to settle.
    expected = gossip.bound if gossip.relays_count else gossip.first_hand_bound
    num_updates = (60.0 if quick else 60.0 + 4000.0 / gossip.num_nodes) + 20.0 * expected
    duration_s = num_updates / gossip.effective_update_rate
    return measure_staleness(gossip, duration_s=duration_s, seed=0)


def _value(found: Staleness) -> str:
    return f"{found.mean:.2f} ± {found.error:.2f}"


def _ratio(found: Staleness, bound: float) -> str:
    return f"{found.mean:.2f} / {bound:.2f} = {found.mean / bound:.2f}"
