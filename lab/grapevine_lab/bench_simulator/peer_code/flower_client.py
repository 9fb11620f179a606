"""Flower's client app: a module of its own, so that Ray's workers import it once and keep what it caches.

Samples, model and optimiser are made once in each worker, not once for each message: the weights come
with every message, and plain SGD has no state.
"""

from __future__ import annotations

from functools import cache

import torch
from flwr.app import (  # type: ignore[import-not-found]  # it lives in the peer's environment
    ArrayRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp  # type: ignore[import-not-found]
from torch import nn

from .learner import Plan, batches, new_model, read_plan, read_samples, rows_of

app = ClientApp()
_loss = nn.CrossEntropyLoss()


@cache
def _learner(plan: Plan) -> tuple[nn.Module, torch.optim.SGD]:
    model = new_model(plan)
    return model, torch.optim.SGD(model.parameters(), lr=plan.learning_rate)


@app.train()  # type: ignore[untyped-decorator]
def train(message: Message, context: Context) -> Message:
    """Train the weights of the message on the samples of this node, and answer with the new ones."""
    config = message.content["config"]
    plan, node = read_plan(config["plan"]), int(context.node_config["partition-id"])
    samples, rows = read_samples(plan.samples), rows_of(node, plan)
    x, y = samples.x[rows], samples.y[rows]
    model, optimiser = _learner(plan)
    torch.manual_seed(hash((plan.seed, node, config["server-round"])))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    model.train()
    for batch in batches(len(x), plan.batch_size, plan.num_steps):
        optimiser.zero_grad()
        _loss(model(x[batch]), y[batch]).backward()
        optimiser.step()
    answer = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
    return Message(content=RecordDict(answer), reply_to=message)
