"""The closed set of pipeline steps, by name."""

from __future__ import annotations

from collections.abc import Mapping

from grapevine_tasks.pipelines.columns import COLUMN_STEPS
from grapevine_tasks.pipelines.images import IMAGE_STEPS
from grapevine_tasks.pipelines.numbers import NUMBER_STEPS
from grapevine_tasks.pipelines.series import SERIES_STEPS
from grapevine_tasks.pipelines.steps import Step

STEPS: Mapping[str, Step] = {**NUMBER_STEPS, **COLUMN_STEPS, **IMAGE_STEPS, **SERIES_STEPS}
DERIVING = ("forecast", "reconstruct")  # steps that make the target
