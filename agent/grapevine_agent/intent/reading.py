"""From an engineer's YAML to an application: the Open Application Model, v1beta1, as KubeVela and Flocky write it.

    components    learning-task │ worker (container) │ webservice (service)
    traits        gossip-learning, server-assisted, schedule, scaler, affinity, resource; and what an agent must have:
                  accelerator, broker-host, container-engine, gateway, sensors
    policies      topology

Nothing is passed over: what is unknown, or would have no effect, is named with its line and what to write. Tasks are
named by words here; which tasks they are, a service says (`with_tasks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from grapevine_agent.intent import quantities
from grapevine_agent.intent.fields import Fields
from grapevine_agent.intent.placing import Placement, read_affinity, read_topology
from grapevine_agent.intent.yaml_tree import Mapping as MappingTree
from grapevine_agent.intent.yaml_tree import Problems, read_documents
from grapevine_proto.application import (
    CPU_THOUSANDTHS,
    MEMORY_MB,
    ApplicationSpec,
    Component,
    Container,
    Hours,
    LearningTask,
)
from grapevine_proto.application_codec import (
    MAX_COMPONENTS,
    MAX_CORES,
    MAX_DESCRIPTION,
    MAX_FEW,
    MAX_REPLICAS,
    MAX_SPANS,
    MAX_SPEC_BYTES,
    MAX_VALUE,
    VARIABLE,
    encode_application,
)
from grapevine_proto.labels import IMAGE, NAME, TRAIT
from grapevine_proto.traits import CONTAINER_ENGINE, FOUND, GOSSIP_LEARNING
from grapevine_tasks.suggestions import did_you_mean

T = TypeVar("T")

API_VERSION: Final = "core.oam.dev/v1beta1"
LEARNING, WORKER, SERVICE = "learning-task", "worker", "webservice"
TYPES: Final = {LEARNING: LEARNING, WORKER: WORKER, "container": WORKER, SERVICE: SERVICE, "service": SERVICE}
TRAITS: Final = ("affinity", "gossip-learning", "resource", "scaler", "schedule", "server-assisted")
_PEER: Final = re.compile(r"[a-z2-7]{20}")
_IMAGE_HINT: Final = "registry.example/name@sha256:… (docker image inspect --format '{{index .RepoDigests 0}}' NAME)"
_NAME_HINT: Final = "lakeside-viewer"
_AUTHOR: Final = "a" * 20  # in the place of one, to count bytes


@dataclass
class Draft:
    """An application but for its author and the ids of its tasks."""

    name: str
    description: str
    components: tuple[Component, ...]
    tasks: tuple[str, ...]  # as they are named


@dataclass
class _Traits:
    """What the traits of one component say."""

    placement: Placement = field(default_factory=Placement)
    replicas: int | None = None
    hours: Hours | None = None
    strategy: str = ""
    server: bool = False
    servers: tuple[str, ...] = ()


def read_applications(text: str, source: str) -> list[Draft]:
    """All applications of a file. Raises `ConfigError` with everything that is wrong, by line."""
    problems = Problems(source)
    trees = read_documents(text, problems)
    if not trees:
        problems.add(1, "is empty; an application begins with apiVersion: " + API_VERSION)
    drafts: list[Draft] = []
    for tree in trees:
        if not isinstance(tree, MappingTree):
            problems.add(tree.line, f"must be a table of fields; begin with apiVersion: {API_VERSION}")
            continue
        drafts.append(_read(Fields(tree, "", problems)))
    names = [draft.name for draft in drafts]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        problems.add(1, f"two applications are called {name}; apply replaces one by the other")
    problems.check()
    return drafts


def with_tasks(draft: Draft, author: str, tasks: Mapping[str, str]) -> ApplicationSpec:
    """The application, by this author; `tasks`: the id of each word."""

    def filled(component: Component) -> Component:
        work = component.workload
        if isinstance(work, LearningTask):
            return replace(component, workload=replace(work, task=tasks[work.task]))
        return component

    components = tuple(map(filled, draft.components))
    return ApplicationSpec(name=draft.name, author=author, description=draft.description, components=components)


def _read(top: Fields) -> Draft:
    version = top.text("apiVersion", hint=API_VERSION)
    if version and version != API_VERSION:
        top.wrong("apiVersion", f"is {version}, and {API_VERSION} is read; write apiVersion: {API_VERSION}")
    kind = top.text("kind", hint="Application")
    if kind and kind != "Application":
        top.wrong("kind", f"is {kind}, and applications are read; write kind: Application")
    metadata, spec = top.mapping("metadata"), top.mapping("spec")
    name = metadata.text("name", form=NAME, hint=_NAME_HINT)
    annotations = metadata.mapping("annotations")
    description = annotations.text("description", "")
    if len(description) > MAX_DESCRIPTION or not description.replace("\n", "").isprintable():
        annotations.wrong("description", f"has control characters or more than {MAX_DESCRIPTION} characters")
    annotations.finish()
    for key in ("namespace", "labels"):
        if metadata.has(key):
            metadata.wrong(key, "has no effect here: an application is its author's, by its name; remove it")
    metadata.finish()
    components = _read_components(spec)
    everywhere = _read_policies(spec)
    if spec.has("workflow"):
        spec.wrong(
            "workflow", "has no effect here: there is nobody who runs steps, each agent decides alone; remove it"
        )
    spec.finish()
    top.finish(ignored=("status",))
    placed = tuple(replace(each, where=everywhere.joined(each.where)) for each in components)
    tasks = tuple(dict.fromkeys(e.workload.task for e in placed if isinstance(e.workload, LearningTask)))
    draft = Draft(name=name, description=description, components=placed, tasks=tasks)
    _check_size(top, draft)
    return draft


def _check_size(top: Fields, draft: Draft) -> None:
    size = len(encode_application(with_tasks(draft, _AUTHOR, dict.fromkeys(draft.tasks, "0" * 64))))
    if size > MAX_SPEC_BYTES:
        top.wrong(
            "spec", f"comes to {size:,} bytes, and at most {MAX_SPEC_BYTES:,} travel; make two applications of it"
        )


def _read_components(spec: Fields) -> list[Component]:
    found = list(spec.each("components"))
    if not found:
        spec.wrong("components", "is missing: an application has at least one component")
    if len(found) > MAX_COMPONENTS:
        spec.wrong("components", f"has {len(found)} components; at most {MAX_COMPONENTS}, make two applications of it")
    components = [_read_component(each) for each in found]
    seen: set[str] = set()
    for each, component in zip(found, components, strict=True):
        if component.name and component.name in seen:
            each.wrong("name", f"{component.name} is the name of another component, too; each has its own")
        seen.add(component.name)
    return components


def _read_component(component: Fields) -> Component:
    name = component.text("name", form=NAME, hint="viewer")
    written = component.text("type", hint=LEARNING)
    kind = TYPES.get(written, "")
    if written and not kind:
        component.wrong("type", f"{written!r} is no type that runs here; {did_you_mean(written, list(TYPES))}")
    traits = _read_traits(component, kind)
    properties = component.mapping("properties")
    workload: LearningTask | Container
    if kind == LEARNING:
        workload = _read_learning(properties, traits)
        traits.placement.need(GOSSIP_LEARNING)
    elif not kind:
        workload = Container(image="")  # what it is to hold depends on the type, which was found wrong
    else:
        workload = _read_container(properties, is_service=kind == SERVICE)
        traits.placement.need(CONTAINER_ENGINE)
    if kind:
        properties.finish()
    for key, remedy in _NOT_READ.items():
        if component.has(key):
            component.wrong(key, remedy)
    component.finish()
    default = 0 if kind == LEARNING or traits.placement.apart_by else 1
    return Component(
        name=name,
        workload=workload,
        replicas=default if traits.replicas is None else traits.replicas,
        where=traits.placement.where(),
        hours=traits.hours,
    )


_NOT_READ: Final = {
    "scopes": "has no effect here; remove it",
    "dependsOn": "has no effect here: each agent runs what is its own, in no order; remove it",
    "inputs": "has no effect here: components hand nothing to each other; remove it",
    "outputs": "has no effect here: components hand nothing to each other; remove it",
    "externalRevision": "has no effect here; remove it",
}


def _read_learning(properties: Fields, traits: _Traits) -> LearningTask:
    task = properties.text("task", hint="the name or the id of a published task")
    return LearningTask(task=task, strategy=traits.strategy, server=traits.server, servers=traits.servers)


def _read_container(properties: Fields, *, is_service: bool) -> Container:
    image = properties.text("image", hint=_IMAGE_HINT)
    if image and not IMAGE.fullmatch(image):
        tagged = "is named by a tag, which may mean another image tomorrow" if "@" not in image else "is no image"
        properties.wrong("image", f"{image[:120]!r} {tagged}; name it by its digest: {_IMAGE_HINT}")
    command = properties.texts("cmd", hint='"python", "-m", "http.server"')
    if len(command) > MAX_FEW or any(len(word) > MAX_VALUE or not word.isprintable() for word in command):
        properties.wrong(
            "cmd", f"has more than {MAX_FEW} words, one of over {MAX_VALUE} characters, or control characters"
        )
    memory = properties.converted("memory", quantities.memory_mb, MEMORY_MB, "64Mi")
    if not 6 <= memory <= 1 << 20:
        properties.wrong("memory", "must be from 6Mi, the least that an engine takes, to 1024Gi")
    cpu = properties.converted("cpu", quantities.cpu_thousandths, CPU_THOUSANDTHS, '"0.5"')
    if not 1 <= cpu <= 1_000 * MAX_CORES:
        properties.wrong("cpu", f"must be from 1m to {MAX_CORES}")
    ports = _read_ports(properties, is_service=is_service)
    return Container(
        image=image,
        command=command,
        environment=_read_environment(properties),
        memory_mb=memory,
        cpu_thousandths=cpu,
        ports=ports,
    )


def _read_ports(properties: Fields, *, is_service: bool) -> tuple[int, ...]:
    if not is_service:
        for key in ("port", "ports"):
            if properties.has(key):
                properties.wrong(key, f"a {WORKER} has no network; with ports it is of type {SERVICE}")
        return ()
    ports = [properties.integer("port", 0, low=1, high=65_535)] if properties.has("port") else []
    for each in properties.each("ports"):
        ports.append(each.integer("port", 0, low=1, high=65_535))
        each.boolean("expose", True)
        each.finish()
    if not ports:
        properties.wrong("port", f"is missing: a {SERVICE} listens on one; without ports it is of type {WORKER}")
    return tuple(dict.fromkeys(port for port in ports if port))


def _read_environment(properties: Fields) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for each in properties.each("env"):
        name = each.text("name", form=VARIABLE, hint="LOG_LEVEL")
        if each.has("valueFrom"):
            each.wrong("valueFrom", "there are no secrets here, and everybody reads an application; write value: …")
        value = each.text("value", "")
        if len(value) > MAX_VALUE or not value.isprintable():
            each.wrong("value", f"has control characters or more than {MAX_VALUE} characters")
        each.finish()
        found[name] = value
    if len(found) > MAX_FEW:
        properties.wrong("env", f"has {len(found)} variables; at most {MAX_FEW}")
    return tuple(found.items())


# --- traits ---------------------------------------------------------------------------------------


def _read_traits(component: Fields, kind: str) -> _Traits:
    traits, seen = _Traits(), set[str]()
    for each in component.each("traits"):
        name = each.text("type", hint="schedule")
        properties = each.mapping("properties")
        if name in seen:
            each.wrong("type", f"{name} is here twice; join the two")
        seen.add(name)
        _read_trait(name, each, properties, traits, kind)
        each.finish()
    return traits


def _read_trait(name: str, each: Fields, properties: Fields, traits: _Traits, kind: str) -> None:
    is_learning = kind in (LEARNING, "")
    match name:
        case "gossip-learning" if is_learning:
            traits.strategy = properties.text("strategy", "", form=TRAIT, hint="delta-sum")
        case "server-assisted" if is_learning:
            traits.server = True
            traits.servers = properties.texts("servers", form=_PEER, hint="a peer's id")
        case "gossip-learning" | "server-assisted":
            each.wrong("type", f"{name} is a trait of components of type {LEARNING}; remove it")
            return
        case "schedule":
            traits.hours = _read_hours(properties)
        case "scaler":
            traits.replicas = properties.integer("replicas", 1, low=1, high=MAX_REPLICAS)
        case "affinity":
            read_affinity(properties, traits.placement)
        case "resource":
            traits.placement.memory_mb = properties.converted("memory", quantities.memory_mb, 0, "512Mi")
            cpu = properties.converted("cpu", quantities.cpu_thousandths, 0, "2")
            traits.placement.cores = -(-cpu // 1_000)
        case _ if name in FOUND:
            properties.boolean("required", True)
            if name == "sensors":
                traits.placement.data_kinds = properties.texts("kinds", form=TRAIT, hint="climate-2")
            traits.placement.need(name)
        case "":
            return
        case _:
            each.wrong("type", f"{name!r} is no trait that has an effect here; {did_you_mean(name, [*TRAITS, *FOUND])}")
            return
    properties.finish()


def _read_hours(properties: Fields) -> Hours:
    spans = _each(properties, "hours", quantities.span, '"22:00-06:00"')
    days = _each(properties, "days", quantities.day, "mon, tue")
    if len(spans) > MAX_SPANS:
        properties.wrong("hours", f"has {len(spans)} spans; at most {MAX_SPANS}")
    if not properties.has("hours") and not properties.has("days"):
        properties.wrong("hours", 'is missing; write hours: "22:00-06:00", or days: [sat, sun]')
    offset = properties.converted("timezone", quantities.utc_offset, 0, '"+02:00"')
    return Hours(utc_offset_minutes=offset, spans=spans, days=tuple(dict.fromkeys(days)))


def _each(properties: Fields, key: str, convert: Callable[[str], T], hint: str) -> tuple[T, ...]:
    found: list[T] = []
    for word in properties.texts(key, hint=hint):
        try:
            found.append(convert(word))
        except ValueError as error:
            properties.wrong(key, f"{word[:80]!r} {error}; write something like {key}: [{hint}]")
    return tuple(found)


# --- policies -------------------------------------------------------------------------------------


def _read_policies(spec: Fields) -> Placement:
    placement = Placement()
    for each in spec.each("policies"):
        each.text("name", "")
        kind = each.text("type", hint="topology")
        if kind == "topology":
            read_topology(each.mapping("properties"), placement)
        elif kind == "override":
            each.wrong("type", "override has no effect here; write into the component what it is to be")
            each.has("properties")
        elif kind:
            each.wrong(
                "type", f"{kind!r} has no effect here: what is applied stays true until it is deleted; remove it"
            )
            each.has("properties")
        each.finish()
    return placement
