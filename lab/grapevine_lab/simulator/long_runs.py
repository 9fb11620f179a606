"""What a long run has beside a world: its course, and somebody who sees everything."""

from __future__ import annotations

from grapevine_lab.simulator.course import Course
from grapevine_lab.simulator.events import Census
from grapevine_lab.simulator.ledger import Ledger
from grapevine_lab.simulator.life_plan import LifePlan
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.sizes import Extent
from grapevine_lab.simulator.standing import DAY_S, Standings
from grapevine_lab.simulator.timeline import happenings
from grapevine_lab.simulator.world import World
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.layout import ModelLayout


def give_course(
    world: World, scenario: Scenario, built: BuiltTask, *, reviewers: frozenset[str], seed: int, limit_s: float
) -> None:
    """Plan what goes wrong and what owners say. A scenario without any of it gets nothing, and draws nothing."""
    review = scenario.review
    world.course = Course(
        happenings=happenings(scenario.faults, scenario.nodes.num, seed, limit_s),
        words=scenario.words,
        draft=built.draft,
        weights=built.weights,
        valid_days=review.valid_days if review is not None else 0.0,
    )
    world.course.plan(world.clock)
    if scenario.life is not None and review is not None:
        standings = Standings(
            reviewers=reviewers, approvals=review.approvals, max_valid_s=review.max_valid_days * DAY_S
        )
        world.ledger = _ledger(world, scenario.life, standings, built)
        world.clock.at(scenario.life.look_every_s, Census())


def _ledger(world: World, plan: LifePlan, standings: Standings, built: BuiltTask) -> Ledger:
    layout = ModelLayout.of(built.draft.program)
    extent = Extent(
        num_devices=0,
        num_tasks=0,
        num_reviewers=len(standings.reviewers),
        model_bytes=2 * 4 * (layout.num_parameters + layout.num_buffers),  # working and released, float32
        task_bytes=len(built.weights) + len(encode_manifest(built.draft)) + 512,
    )
    return Ledger(plan=plan, population=world.population, standings=standings, extent=extent)
