"""Applications to protobuf and back, and the id that an application has.

Decoding is strict, because these bytes come from strangers: whatever decodes is within the bounds below, its names
can stand in topics and on a terminal, and its parts are what they say. What it costs is bounded by the bytes, of
which there are `MAX_SPEC_BYTES`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from grapevine_proto import application as a
from grapevine_proto import application_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.labels import IMAGE, LABEL_KEY, LABEL_VALUE, NAME, TRAIT
from grapevine_proto.reading import parsed
from grapevine_proto.topics import TASK_ID, is_id

MAX_SPEC_BYTES: Final = 16 * 1024
MAX_COMPONENTS: Final = 16
MAX_REPLICAS: Final = 1_000
MAX_DESCRIPTION: Final = 2_000
MAX_FEW: Final = 32  # of whatever else there may be several
MAX_SPANS: Final = 8
MAX_VALUE: Final = 1_000  # characters of a word of a command, or of a variable
MAX_MEMORY_MB: Final = 1 << 20
MAX_CORES: Final = 1_024
MAX_WEIGHT: Final = 100
MAX_OFFSET_MINUTES: Final = 14 * 60

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_OPERATORS: Final[dict[a.Operator, pb.LabelOperator]] = {
    "In": pb.LABEL_OPERATOR_IN,
    "NotIn": pb.LABEL_OPERATOR_NOT_IN,
    "Exists": pb.LABEL_OPERATOR_EXISTS,
    "DoesNotExist": pb.LABEL_OPERATOR_ABSENT,
}
_BY_WIRE: Final[dict[int, a.Operator]] = {int(number): name for name, number in _OPERATORS.items()}


def application_id(spec: bytes) -> str:
    """The id of an application: the SHA-256 of its bytes, 64 lower-case hex digits."""
    return hashlib.sha256(spec).hexdigest()


# --- writing --------------------------------------------------------------------------------------


def encode_application(spec: a.ApplicationSpec) -> bytes:
    """The bytes of an application; the same application gives the same bytes."""
    wire = pb.ApplicationSpec(
        name=spec.name,
        author=spec.author,
        description=spec.description,
        components=map(_write_component, spec.components),
    )
    return wire.SerializeToString(deterministic=True)


def _write_component(component: a.Component) -> pb.Component:
    where, hours, work = component.where, component.hours, component.workload
    wire = pb.Component(
        name=component.name,
        replicas=component.replicas,
        where=pb.Where(
            traits=where.traits,
            data_kinds=where.data_kinds,
            cores=where.cores,
            memory_mb=where.memory_mb,
            terms=map(_write_term, where.terms),
            preferred=[pb.Preference(weight=each.weight, term=_write_term(each.term)) for each in where.preferred],
            apart_by=where.apart_by,
        ),
        hours=None
        if hours is None
        else pb.Hours(
            utc_offset_minutes=hours.utc_offset_minutes,
            spans=[pb.Span(begin=begin, end=end) for begin, end in hours.spans],
            days=hours.days,
        ),
    )
    if isinstance(work, a.LearningTask):
        wire.learning.CopyFrom(
            pb.LearningTask(task=work.task, strategy=work.strategy, server=work.server, servers=work.servers)
        )
    else:
        wire.container.CopyFrom(
            pb.Container(
                image=work.image,
                command=work.command,
                environment=[pb.Variable(name=name, value=value) for name, value in work.environment],
                memory_mb=work.memory_mb,
                cpu_thousandths=work.cpu_thousandths,
                ports=work.ports,
            )
        )
    return wire


def _write_term(term: a.Term) -> pb.LabelTerm:
    return pb.LabelTerm(
        tests=[pb.LabelTest(key=test.key, operator=_OPERATORS[test.operator], values=test.values) for test in term]
    )


# --- reading --------------------------------------------------------------------------------------


def decode_application(encoded: bytes) -> a.ApplicationSpec:
    """The application in these bytes. Raises WireError, and nothing else, for anything that is not within bounds."""
    if len(encoded) > MAX_SPEC_BYTES:
        raise WireError("too-big", f"an application of {len(encoded)} bytes; at most {MAX_SPEC_BYTES}")
    wire = parsed(pb.ApplicationSpec, encoded, "an application")
    if not is_id(wire.author):
        raise _bad(f"author {wire.author[:70]!r} is no peer id")
    if not 1 <= len(wire.components) <= MAX_COMPONENTS:
        raise _bad(f"{len(wire.components)} components; from 1 to {MAX_COMPONENTS}")
    components = tuple(map(_read_component, wire.components))
    names = [component.name for component in components]
    if len(set(names)) != len(names):
        raise _bad("two components have one name")
    return a.ApplicationSpec(
        name=_matching(NAME, wire.name, "name"),
        author=wire.author,
        description=_text(wire.description, "description", MAX_DESCRIPTION, lines=True),
        components=components,
    )


def _bad(text: str) -> WireError:
    return WireError("bad-application", text)


def _matching(form: re.Pattern[str], text: str, what: str) -> str:
    if not form.fullmatch(text):
        raise _bad(f"{what} is {text[:70]!r}, which has not its form")
    return text


def _text(text: str, what: str, most: int, *, lines: bool = False) -> str:
    if len(text) > most or not (text.replace("\n", "") if lines else text).isprintable():
        raise _bad(f"{what} has control characters or more than {most} characters")
    return text


def _number(number: int, what: str, low: int, high: int) -> int:
    if not low <= number <= high:
        raise _bad(f"{what} is {number}, outside {low} to {high}")
    return number


def _few(items: Sequence[str], form: re.Pattern[str], what: str) -> tuple[str, ...]:
    if len(items) > MAX_FEW or len(set(items)) != len(items):
        raise _bad(f"{len(items)} of {what}; at most {MAX_FEW}, each once")
    return tuple(_matching(form, item, what) for item in items)


def _read_component(wire: pb.Component) -> a.Component:
    return a.Component(
        name=_matching(NAME, wire.name, "a component's name"),
        replicas=_number(wire.replicas, "replicas", 0, MAX_REPLICAS),
        where=_read_where(wire.where),
        hours=_read_hours(wire.hours) if wire.HasField("hours") else None,
        workload=_read_workload(wire),
    )


def _read_workload(wire: pb.Component) -> a.LearningTask | a.Container:
    match wire.WhichOneof("workload"):
        case "learning":
            return a.LearningTask(
                task=_matching(TASK_ID, wire.learning.task, "learning.task"),
                strategy=_matching(TRAIT, wire.learning.strategy, "learning.strategy")
                if wire.learning.strategy
                else "",
                server=wire.learning.server,
                servers=_few(wire.learning.servers, TRAIT, "learning.servers"),
            )
        case "container":
            return _read_container(wire.container)
    raise _bad("a component that this version does not know")


def _read_container(wire: pb.Container) -> a.Container:
    if len(wire.command) > MAX_FEW or len(wire.environment) > MAX_FEW or len(wire.ports) > MAX_FEW:
        raise _bad(f"more than {MAX_FEW} words, variables or ports of a container")
    return a.Container(
        image=_matching(IMAGE, wire.image, "image"),
        command=tuple(_text(word, "command", MAX_VALUE) for word in wire.command),
        environment=tuple(
            (_matching(VARIABLE, each.name, "a variable's name"), _text(each.value, "a variable", MAX_VALUE))
            for each in wire.environment
        ),
        memory_mb=_number(wire.memory_mb, "memory_mb", 6, MAX_MEMORY_MB),
        cpu_thousandths=_number(wire.cpu_thousandths, "cpu_thousandths", 1, 1_000 * MAX_CORES),
        ports=tuple(_number(port, "a port", 1, 65_535) for port in wire.ports),
    )


def _read_where(wire: pb.Where) -> a.Where:
    if len(wire.terms) > MAX_FEW or len(wire.preferred) > MAX_FEW:
        raise _bad(f"more than {MAX_FEW} terms or preferences")
    return a.Where(
        traits=_few(wire.traits, TRAIT, "traits"),
        data_kinds=_few(wire.data_kinds, TRAIT, "data_kinds"),
        cores=_number(wire.cores, "cores", 0, MAX_CORES),
        memory_mb=_number(wire.memory_mb, "memory_mb", 0, MAX_MEMORY_MB),
        terms=tuple(map(_read_term, wire.terms)),
        preferred=tuple(
            a.Preference(weight=_number(each.weight, "weight", 1, MAX_WEIGHT), term=_read_term(each.term))
            for each in wire.preferred
        ),
        apart_by=_matching(LABEL_KEY, wire.apart_by, "apart_by") if wire.apart_by else "",
    )


def _read_term(wire: pb.LabelTerm) -> a.Term:
    if not 1 <= len(wire.tests) <= MAX_FEW:
        raise _bad(f"{len(wire.tests)} tests in a term; from 1 to {MAX_FEW}")
    return tuple(map(_read_test, wire.tests))


def _read_test(wire: pb.LabelTest) -> a.LabelTest:
    operator = _BY_WIRE.get(wire.operator)
    if operator is None:
        raise _bad(f"the operator {wire.operator} is not known")
    values = _few(wire.values, LABEL_VALUE, "values")
    if bool(values) != (operator in ("In", "NotIn")):
        raise _bad(f"{operator} with {len(values)} values")
    return a.LabelTest(key=_matching(LABEL_KEY, wire.key, "a label"), operator=operator, values=values)


def _read_hours(wire: pb.Hours) -> a.Hours:
    if len(wire.spans) > MAX_SPANS or len(wire.days) > 7 or len(set(wire.days)) != len(wire.days):
        raise _bad(f"more than {MAX_SPANS} spans of hours, or a day twice")
    spans = [
        (_number(each.begin, "begin", 0, a.DAY_MINUTES - 1), _number(each.end, "end", 0, a.DAY_MINUTES))
        for each in wire.spans
    ]
    if any(begin == end for begin, end in spans):
        raise _bad("hours that end as they begin")
    return a.Hours(
        utc_offset_minutes=_number(wire.utc_offset_minutes, "utc_offset", -MAX_OFFSET_MINUTES, MAX_OFFSET_MINUTES),
        spans=tuple(spans),
        days=tuple(_number(day, "a day", 0, 6) for day in wire.days),
    )
