"""What a task that was joined begins with, from the disk to the core."""

from __future__ import annotations

import logging

from grapevine_agent.core import effects as fx
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.service import clock
from grapevine_agent.service.saving import Saver
from grapevine_agent.service.turns import Turns
from grapevine_proto.errors import GrapevineError

logger = logging.getLogger(__name__)


async def load(wanted: fx.LoadTask, saver: Saver, core: AgentCore, turns: Turns) -> None:
    """Whatever comes of it, the core is told: it waits for that."""
    saved = inherited = weights = None
    error = ""
    try:
        saved = await saver.load_model(wanted.task)
        for donor in wanted.donors if saved is None else ():
            inherited = inherited or await saver.load_model(donor)
        weights = await saver.get_blob(wanted.weights_digest)
    except GrapevineError as failure:
        error = str(failure)
    except Exception as failure:
        logger.exception("loading %s failed", wanted.task)
        error = f"{type(failure).__name__}: {failure}"
    size = len(weights or b"") + sum(
        vector.nbytes for model in (saved, inherited) if model is not None for vector in model.vectors.values()
    )
    await turns.take(
        lambda: core.loaded(wanted.task, saved, weights, clock.now(), inherited, error), num_bytes=lambda: size
    )
