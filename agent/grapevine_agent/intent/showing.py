"""An application in the form of its YAML, as a tree of plain values: what `get -o yaml` and `review show` print."""

from __future__ import annotations

from typing import Any

from grapevine_agent.intent.reading import API_VERSION, LEARNING, SERVICE, WORKER
from grapevine_agent.spoken import time_of_day
from grapevine_proto.application import (
    DAYS,
    ApplicationSpec,
    Component,
    Container,
    Hours,
    LearningTask,
    Term,
    Where,
)
from grapevine_proto.traits import CONTAINER_ENGINE, GOSSIP_LEARNING, SENSORS


def as_tree(spec: ApplicationSpec, application: str) -> dict[str, Any]:
    """The whole application. Reading it again gives the same one, by the same author."""
    metadata: dict[str, Any] = {"name": spec.name}
    if spec.description:
        metadata["annotations"] = {"description": spec.description}
    return {
        "apiVersion": API_VERSION,
        "kind": "Application",
        "metadata": metadata,
        "spec": {"components": [_component(each) for each in spec.components]},
        "status": {"application": application, "author": spec.author},
    }


def _component(component: Component) -> dict[str, Any]:
    work = component.workload
    is_learning = isinstance(work, LearningTask)
    tree: dict[str, Any] = {
        "name": component.name,
        "type": LEARNING if is_learning else SERVICE if isinstance(work, Container) and work.ports else WORKER,
        "properties": {"task": work.task} if isinstance(work, LearningTask) else _container(work),
    }
    traits: list[dict[str, Any]] = []
    if isinstance(work, LearningTask):
        traits.append(_trait("gossip-learning", {"strategy": work.strategy} if work.strategy else {}))
        if work.server:
            traits.append(_trait("server-assisted", {"servers": list(work.servers)} if work.servers else {}))
    if component.hours is not None:
        traits.append(_trait("schedule", _hours(component.hours)))
    if component.replicas:
        traits.append(_trait("scaler", {"replicas": component.replicas}))
    implied = GOSSIP_LEARNING if is_learning else CONTAINER_ENGINE
    if affinity := _affinity(component.where):
        traits.append(_trait("affinity", affinity))
    traits += _needed(component.where, implied)
    return tree | ({"traits": traits} if traits else {})


def _trait(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": name, "properties": properties} if properties else {"type": name}


def _needed(where: Where, implied: str) -> list[dict[str, Any]]:
    """Traits that an agent must have, and how much of it."""
    traits = []
    if where.cores or where.memory_mb:
        resource: dict[str, Any] = {"cpu": where.cores} if where.cores else {}
        traits.append(_trait("resource", resource | ({"memory": f"{where.memory_mb}Mi"} if where.memory_mb else {})))
    for trait in where.traits:
        if trait != implied:
            has_kinds = trait == SENSORS and where.data_kinds
            traits.append(_trait(trait, {"kinds": list(where.data_kinds)} if has_kinds else {}))
    return traits


def _container(work: Container) -> dict[str, Any]:
    tree: dict[str, Any] = {"image": work.image}
    if work.command:
        tree["cmd"] = list(work.command)
    if work.environment:
        tree["env"] = [{"name": name, "value": value} for name, value in work.environment]
    tree |= {"cpu": f"{work.cpu_thousandths}m", "memory": f"{work.memory_mb}Mi"}
    return tree | ({"ports": [{"port": port} for port in work.ports]} if work.ports else {})


def _hours(hours: Hours) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    if hours.spans:
        tree["hours"] = [f"{time_of_day(begin)}-{time_of_day(end)}" for begin, end in hours.spans]
    if hours.days:
        tree["days"] = [DAYS[day] for day in hours.days]
    if minutes := hours.utc_offset_minutes:
        tree["timezone"] = f"{'-' if minutes < 0 else '+'}{time_of_day(abs(minutes))}"
    return tree


def _affinity(where: Where) -> dict[str, Any]:
    node: dict[str, Any] = {}
    if where.terms:
        node["required"] = {"nodeSelectorTerms": [_term(term) for term in where.terms]}
    if where.preferred:
        node["preferred"] = [{"weight": each.weight, "preference": _term(each.term)} for each in where.preferred]
    tree = {"nodeAffinity": node} if node else {}
    if where.apart_by:
        tree["podAntiAffinity"] = {"required": [{"topologyKey": where.apart_by}]}
    return tree


def _term(term: Term) -> dict[str, Any]:
    tests = []
    for test in term:
        values = {"values": list(test.values)} if test.values else {}
        tests.append({"key": test.key, "operator": test.operator, **values})
    return {"matchExpressions": tests}
