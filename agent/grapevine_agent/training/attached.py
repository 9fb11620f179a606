"""A trainer of the owner's own, attached by a URL: the service's side of the protocol in docs/trainers.md.

    GET  /v1/describe                      ──►  JSON: the kinds of data that it has, and how many samples
    POST /v1/train     safetensors         ──►  safetensors: the trained model, loss and num_samples
    POST /v1/evaluate  safetensors         ──►  JSON: loss, metric, num_samples

A model is its named tensors in float32; what else there is to say stands in the header's metadata, as
strings. It is the owner's program, so its word on its data is taken. Its mistakes are not: a model of
another shape, or with numbers that are not finite, goes no further than here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from grapevine_agent.outlasting import in_a_thread
from grapevine_agent.training.exchange import Reply, exchange
from grapevine_agent.training.process import plain
from grapevine_agent.training.results import Evaluation, TrainingResult, Yardstick
from grapevine_agent.training.schedules import learning_rate
from grapevine_agent.training.trainer import NoFiguresError, check_result
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Vector
from grapevine_tasks.layout import ModelLayout

logger = logging.getLogger(__name__)

PROTOCOL: Final = 1
DESCRIBE_TIMEOUT_S: Final = 10.0
MOST_WORDS: Final = 65_536  # bytes of an answer beside the model
_MOST_SAMPLES: Final = 2**31 - 1


class AttachedTrainer:
    """Asks a trainer of the owner's for one task. Implements `AnyTrainer`.

    Args:
        manifest: Checked.
        url: Of the owner's configuration.
    """

    def __init__(self, manifest: TaskManifest, url: str) -> None:
        self._manifest = manifest
        self._url = url
        self._layout = ModelLayout.of(manifest.program)
        self._lock = asyncio.Lock()
        self.is_running = False  # it described itself, and has not failed since
        self.num_samples = 0
        self.bare_mb = 0
        self.yardstick = Yardstick()  # it has none
        self.num_test = 0  # it does not say how many, before it has evaluated
        self.protection = f"the owner's own trainer at {url}"

    async def start(self, timeout_s: float = DESCRIBE_TIMEOUT_S) -> None:
        """Ask it what it has; 10 s are enough for that.

        Raises TaskError when it is not there, or has no data of the task's kind.
        """
        timeout_s = min(timeout_s, DESCRIBE_TIMEOUT_S)
        async with self._lock:
            described = self._json(await self._ask("GET", "/v1/describe", None, MOST_WORDS, timeout_s))
            if described.get("protocol") != PROTOCOL:
                raise self._error(f"speaks protocol {described.get('protocol')!r}; this agent speaks {PROTOCOL}")
            kinds, wanted = described.get("kinds"), self._manifest.data.kind
            if not isinstance(kinds, dict) or not isinstance(kinds.get(wanted), dict):
                raise self._error(f"has no data of the kind {wanted!r}: /v1/describe says {_short(kinds)}")
            self.num_samples = self._count(kinds[wanted], "num_samples", least=1)
            self.is_running = True
            logger.info("trainer of %s: %s, %d samples", self._manifest.name, self.protection, self.num_samples)

    async def train(
        self, parameters: Vector, buffers: Vector, num_steps: int, timeout_s: float, *, age: int = 0
    ) -> TrainingResult:
        """See `AnyTrainer`."""
        plan = self._manifest.training
        facts = {
            "num_steps": num_steps,
            "batch_size": plan.batch_size,
            "loss": plan.loss,
            "optimiser": plan.optimiser.name,
            "learning_rate": learning_rate(plan)(age),
            "momentum": plan.optimiser.momentum,
            "weight_decay": plan.optimiser.weight_decay,
        }
        body = await in_a_thread(lambda: self._body(parameters, buffers, facts), parameters.nbytes)
        async with self._lock:
            reply = await self._ask("POST", "/v1/train", body, len(body) + MOST_WORDS, timeout_s)
        trained, trained_buffers, words = await in_a_thread(lambda: self._model(reply), len(reply.body))
        try:
            loss, num_samples = float(words["loss"]), int(words["num_samples"])
        except (KeyError, ValueError):
            raise self._error(
                f"must say loss and num_samples in the header's metadata; it says {_short(words)}"
            ) from None
        result = TrainingResult(parameters=trained, buffers=trained_buffers, loss=loss, num_samples=num_samples)
        try:
            await in_a_thread(lambda: check_result(result, most_samples=_MOST_SAMPLES), trained.nbytes)
        except TaskError as error:
            raise self._error(str(error)) from None
        return result

    async def evaluate(self, parameters: Vector, buffers: Vector, timeout_s: float) -> Evaluation:
        """See `AnyTrainer`."""
        facts = {"loss": self._manifest.training.loss, "metric": self._manifest.training.metric}
        body = await in_a_thread(lambda: self._body(parameters, buffers, facts), parameters.nbytes)
        async with self._lock:
            found = self._json(await self._ask("POST", "/v1/evaluate", body, MOST_WORDS, timeout_s))
        num_samples = self._count(found, "num_samples", least=0)
        if not num_samples:  # whatever it says then, it has measured nothing
            return Evaluation(loss=None, metric=None, num_samples=0)
        for key in ("loss", "metric"):
            value = found.get(key)
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                raise NoFiguresError(f"the trainer at {self._url}: the model's {key} is {value}", num_samples)
        return Evaluation(
            loss=self._number(found, "loss"), metric=self._number(found, "metric"), num_samples=num_samples
        )

    async def stop(self) -> None:
        """Ask it no more; it is the owner's, and goes on."""
        self.is_running = False

    # --- what is said, and understood ------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: bytes | None, most_bytes: int, timeout_s: float) -> Reply:
        """A reply that is no refusal. After anything else it has to describe itself again."""
        was_running, self.is_running = self.is_running, False
        reply = await exchange(self._url, method, path, body=body, most_bytes=most_bytes, timeout_s=timeout_s)
        if reply.status != 200:
            raise self._error(
                f"{method} {path} gave status {reply.status}: {_short(reply.body.decode(errors='replace'))}"
            )
        self.is_running = was_running
        return reply

    def _body(self, parameters: Vector, buffers: Vector, facts: Mapping[str, object]) -> bytes:
        named = {name: np.ascontiguousarray(tensor) for name, tensor in self._layout.split(parameters, buffers).items()}
        facts = {"task": self._manifest.name, "kind": self._manifest.data.kind, **facts}
        return safetensors.numpy.save(named, {key: str(value) for key, value in facts.items()})

    def _model(self, reply: Reply) -> tuple[Vector, Vector, Mapping[str, str]]:
        try:
            named = safetensors.numpy.load(reply.body)
            length = int.from_bytes(reply.body[:8], "little")
            words: dict[str, str] = json.loads(reply.body[8 : 8 + length]).get("__metadata__") or {}
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._error(f"POST /v1/train gave no safetensors: {error}") from None
        for name, tensor in named.items():
            if tensor.dtype != np.float32:
                raise self._error(f"the tensor {name!r} is {tensor.dtype}, not float32")
        try:
            return *self._layout.join(named), words
        except TaskError as error:
            raise self._error(str(error)) from None

    def _json(self, reply: Reply) -> dict[str, Any]:
        try:
            found = json.loads(reply.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._error(f"gave no JSON object but {_short(reply.body.decode(errors='replace'))}")
        return found

    def _number(self, found: Mapping[str, Any], key: str) -> float:
        value = found.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_as_float(value)):
            raise self._error(f"{key} must be a finite number; it is {_short(value)}")
        return float(value)

    def _count(self, found: Mapping[str, Any], key: str, *, least: int) -> int:
        value = found.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_SAMPLES:
            raise self._error(f"{key} must be a whole number from {least} on; it is {_short(value)}")
        return value

    def _error(self, text: str) -> TaskError:
        self.is_running = False
        return TaskError(f"the trainer at {self._url}: {text}")


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _short(value: object) -> str:
    return plain(value if isinstance(value, str) else repr(value))[:200]
