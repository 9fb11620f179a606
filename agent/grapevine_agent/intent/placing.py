"""Where an application's components may be, of its YAML: the trait `affinity` and the policy `topology`.

As in KubeVela, a node is an agent here, and a cluster is a site. Labels are what agents announce: their owners' own,
and `peer`, `site` and `profile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, get_args

from grapevine_agent.intent.fields import Fields
from grapevine_proto.application import SITE, LabelTest, Operator, Preference, Term, Where
from grapevine_proto.application_codec import MAX_FEW, MAX_WEIGHT
from grapevine_proto.labels import LABEL_KEY, LABEL_VALUE
from grapevine_tasks.suggestions import did_you_mean

OPERATORS: Final[dict[str, Operator]] = {each: each for each in get_args(Operator)}
_TEST: Final = "{key: room, operator: In, values: [kitchen]}"


@dataclass
class Placement:
    """What is asked of an agent."""

    traits: list[str] = field(default_factory=list)
    data_kinds: tuple[str, ...] = ()
    cores: int = 0
    memory_mb: int = 0
    tests: list[LabelTest] = field(default_factory=list)  # beside one of the terms
    terms: list[Term] = field(default_factory=list)
    preferred: list[Preference] = field(default_factory=list)
    apart_by: str = ""

    def need(self, trait: str) -> None:
        """The agent must have this trait."""
        if trait not in self.traits:
            self.traits.append(trait)

    def where(self) -> Where:
        """The same, as it travels."""
        return Where(
            traits=tuple(self.traits),
            data_kinds=self.data_kinds,
            cores=self.cores,
            memory_mb=self.memory_mb,
            terms=tuple(self.terms),
            preferred=tuple(self.preferred),
            apart_by=self.apart_by,
        )

    def joined(self, where: Where) -> Where:
        """A component's own placement, and these tests beside it."""
        if not self.tests:
            return where
        return replace(where, terms=tuple((*term, *self.tests) for term in where.terms or ((),)))


def read_affinity(properties: Fields, placement: Placement) -> None:
    """The trait `affinity`: nodeAffinity, and podAntiAffinity by a topologyKey."""
    node = properties.mapping("nodeAffinity")
    required = node.mapping("required")
    for term in required.each("nodeSelectorTerms"):
        if tests := tuple(_tests(term)):
            placement.terms.append(tests)
    required.finish()
    for each in node.each("preferred"):
        weight = each.integer("weight", 1, low=1, high=MAX_WEIGHT)
        if tests := tuple(_tests(each.mapping("preference"))):
            placement.preferred.append(Preference(weight=weight, term=tests))
        each.finish()
    node.finish()
    anti = properties.mapping("podAntiAffinity")
    keys = [_topology_key(each) for each in anti.each("required")]
    if len(keys) > 1:
        anti.wrong("required", "has several keys, and replicas are kept apart by one; choose one")
    placement.apart_by = next(iter(keys), "")
    for key in ("preferred",):
        if anti.has(key):
            anti.wrong(key, "has no effect here: replicas are apart, or they may be anywhere; write required")
    anti.finish()
    if properties.has("podAffinity"):
        properties.wrong("podAffinity", "has no effect here; give the agents a label, and write nodeAffinity")
    if properties.has("tolerations"):
        properties.wrong("tolerations", "has no effect here: agents have no taints; remove it")
    if len(placement.terms) > MAX_FEW or len(placement.preferred) > MAX_FEW:
        properties.wrong("nodeAffinity", f"has more than {MAX_FEW} terms or preferences")


def _topology_key(term: Fields) -> str:
    key = term.text("topologyKey", form=LABEL_KEY, hint=SITE)
    if term.has("labelSelector"):
        term.wrong("labelSelector", "has no effect here: replicas of this component are kept apart; remove it")
    term.finish()
    return key


def _tests(term: Fields) -> Iterator[LabelTest]:
    found = 0
    for each in term.each("matchExpressions"):
        found += 1
        key = each.text("key", form=LABEL_KEY, hint="room")
        written = each.text("operator", "In")
        operator = OPERATORS.get(written)
        values = each.texts("values", form=LABEL_VALUE, hint="kitchen")
        each.finish()
        if operator is None:
            each.wrong("operator", f"{written!r} is no operator that is read; {did_you_mean(written, OPERATORS)}")
        elif bool(values) != (operator in ("In", "NotIn")):
            each.wrong("values", f"{operator} {'has no values' if values else 'needs values'}; write {_TEST}")
        elif key:
            yield LabelTest(key=key, operator=operator, values=tuple(dict.fromkeys(values)))
    term.finish()
    if not found:
        term.wrong("matchExpressions", f"is missing or empty; write - {_TEST}")


def read_topology(properties: Fields, placement: Placement) -> None:
    """The policy `topology`: sites, and labels of agents, for all components."""
    for key in ("clusters", "sites"):
        if sites := properties.texts(key, form=LABEL_VALUE, hint="lakeside"):
            placement.tests.append(LabelTest(key=SITE, operator="In", values=tuple(dict.fromkeys(sites))))
    for key in ("clusterLabelSelector", "labelSelector"):
        for label, value, line in properties.pairs(key):
            if LABEL_KEY.fullmatch(label) and LABEL_VALUE.fullmatch(value):
                placement.tests.append(LabelTest(key=label, operator="In", values=(value,)))
            else:
                problem = f"{properties.at(key)}: {label[:70]}: {value[:70]!r} is no label that an agent can have"
                properties.problems.add(line, problem)
    if not placement.tests:
        properties.wrong("sites", "is missing: say where, with sites: […] or labelSelector: {room: kitchen}")
    properties.finish()
