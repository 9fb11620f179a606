"""Applications in YAML: what is written comes back, and what is wrong is told all at once, by line."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.intent.quantities import cpu_thousandths, day, memory_mb, span, utc_offset
from grapevine_agent.intent.reading import read_applications, with_tasks
from grapevine_agent.intent.showing import as_tree
from grapevine_proto.application import ApplicationSpec, Container, Hours, LabelTest, LearningTask
from grapevine_proto.application_codec import decode_application, encode_application
from grapevine_proto.errors import ConfigError

AUTHOR, TASK = "a" * 20, "0" * 64
IMAGE = f"docker.io/library/nginx@sha256:{'ab' * 32}"
WHOLE = f"""\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: lakeside
  annotations: {{description: Two parts.}}
spec:
  components:
    - name: digits
      type: learning-task
      properties: {{task: small-digits}}
      traits:
        - type: gossip-learning
          properties: {{strategy: delta-sum}}
        - type: server-assisted
        - type: schedule
          properties: {{hours: 22:00-06:00, days: [sat, Sunday], timezone: "-03:30"}}
        - type: scaler
          properties: {{replicas: 5}}
        - type: accelerator
          properties: {{required: "true"}}
        - type: affinity
          properties:
            nodeAffinity:
              required:
                nodeSelectorTerms:
                  - matchExpressions: [{{key: room, operator: In, values: [kitchen, hall]}}]
              preferred:
                - weight: 10
                  preference: {{matchExpressions: [{{key: loud, operator: DoesNotExist}}]}}
            podAntiAffinity:
              required: [{{topologyKey: floor}}]
    - name: viewer
      type: webservice
      properties:
        image: {IMAGE}
        cmd: [serve, --all]
        port: 8080
        env: [{{name: LEVEL, value: "1"}}]
        memory: 64Mi
        cpu: "0.25"
  policies:
    - name: at-the-lake
      type: topology
      properties: {{sites: [lakeside], clusterLabelSelector: {{floor: "2"}}}}
"""


def read(text: str) -> ApplicationSpec:
    draft = read_applications(text, "app.yaml")[0]
    return with_tasks(draft, AUTHOR, dict.fromkeys(draft.tasks, TASK))


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_applications(text, "app.yaml")
    return str(raised.value).splitlines()


def test_all_of_it_is_read_and_shown_again() -> None:
    spec = read(WHOLE)
    digits, viewer = spec.components
    assert digits.workload == LearningTask(task=TASK, strategy="delta-sum", server=True)
    assert (digits.replicas, digits.where.apart_by) == (5, "floor")
    assert digits.where.traits == ("accelerator", "gossip-learning")
    assert digits.hours == Hours(utc_offset_minutes=-210, spans=((1_320, 360),), days=(5, 6))
    assert digits.where.terms == (
        (
            LabelTest(key="room", operator="In", values=("kitchen", "hall")),
            LabelTest(key="site", operator="In", values=("lakeside",)),
            LabelTest(key="floor", operator="In", values=("2",)),
        ),
    )
    assert viewer.workload == Container(
        image=IMAGE,
        command=("serve", "--all"),
        environment=(("LEVEL", "1"),),
        memory_mb=64,
        cpu_thousandths=250,
        ports=(8080,),
    )
    assert viewer.replicas == 1  # as KubeVela's
    assert decode_application(encode_application(spec)) == spec
    assert read(yaml.safe_dump(as_tree(spec, "x"), sort_keys=False)) == spec


def test_everything_that_is_wrong_is_told_at_once_with_its_line() -> None:
    text = (
        WHOLE.replace("replicas: 5", "replicsa: 5")
        .replace(IMAGE, "nginx:latest")
        .replace("type: topology", "type: garbage-collect")
        .replace("sat,", "sad,")
        .replace("name: viewer", "name: digits")
        .replace("operator: In", "operator: in")
        .replace("kind: Application", "kind: Aplication")
    )
    lines = told(text)
    for wanted in (
        "app.yaml:2: kind: is Aplication, and applications are read",
        "app.yaml:16: spec.components[0].traits[2].properties.days: 'sad' is no day of the week",
        "app.yaml:18: spec.components[0].traits[3].properties.replicsa: unknown field; did you mean 'replicas'?",
        "'in' is no operator that is read; did you mean 'In'?",
        "spec.components[1].name: digits is the name of another component",
        "'nginx:latest' is named by a tag, which may mean another image tomorrow; name it by its digest",
        "spec.policies[0].type: 'garbage-collect' has no effect here",
    ):
        assert any(wanted in line for line in lines), (wanted, lines)
    assert len(lines) == 7


def test_one_mistake_is_told_once() -> None:
    (line,) = told(WHOLE.replace("port: 8080", "port: 99999"))
    assert "it must be a whole number from 1 to 65535" in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("- a\n", "must be a table of fields"),
        ("a: &x [*x]", "the alias *x: aliases are not read"),
        ("a: !!python/object/apply:os.system [x]", "tags are not read"),
        ("a: 1\na: 2", "app.yaml:2: a: comes twice; it stands in line 1 already"),
        ("[[", "this is not YAML"),
        ("{" * 3_000, "this is not YAML"),
        ("[" * 3_000 + "]" * 3_000, "nested too deeply"),
        ("? [a]\n: b", "a key must be a word"),
        ("a: " + "x" * 300_000, "at most 262,144 are read"),
        (WHOLE.replace("type: webservice", "type: webservise"), "did you mean 'webservice'?"),
        (WHOLE.replace("type: webservice", "type: worker"), "a worker has no network"),
        (WHOLE.replace("port: 8080", "prot: 8080"), "did you mean 'port'?"),
        (WHOLE.replace('value: "1"', "valueFrom: {secretKeyRef: x}"), "there are no secrets here"),
        (WHOLE.replace("type: scaler", "type: autoscaler"), "did you mean 'scaler'?"),
        (WHOLE.replace("22:00-06:00", "22:00"), "'22:00' are no hours"),
        (WHOLE.replace('"-03:30"', "Europe/Berlin"), "names of time zones are not read"),
        (WHOLE.replace("memory: 64Mi", "memory: lots"), "'lots' is no amount of memory"),
        (WHOLE.replace("name: lakeside", "name: Lake Side"), "'Lake Side' has not the right form"),
        (WHOLE.replace("v1beta1", "v1alpha2"), "core.oam.dev/v1beta1 is read"),
        (WHOLE + "  workflow: {steps: []}\n", "each agent decides alone"),
        (WHOLE.replace("[serve, --all]", "[" + ", ".join(["y" * 999] * 30) + "]"), "at most 16,384 travel"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(text: str, says: str) -> None:
    assert any(says in line for line in told(text))


def test_several_applications_may_stand_in_a_file() -> None:
    two = read_applications(f"{WHOLE}---\n{WHOLE.replace('name: lakeside', 'name: hilltop')}", "app.yaml")
    assert [draft.name for draft in two] == ["lakeside", "hilltop"]
    assert "two applications are called lakeside" in told(f"{WHOLE}---\n{WHOLE}")[0]


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(ConfigError):
        read_applications(text, "app.yaml")


def test_amounts_and_times() -> None:
    assert [memory_mb(each) for each in ("64Mi", "1Gi", "1048577", "64M")] == [64, 1024, 2, 62]
    assert [cpu_thousandths(each) for each in ("0.5", "2", "500m")] == [500, 2000, 500]
    assert span("22:00-06:00") == (1_320, 360)
    assert span("8:30-24:00") == (510, 1_440)
    assert [utc_offset(each) for each in ("UTC", "+02:00", "UTC-03:30")] == [0, 120, -210]
    assert [day(each) for each in ("mon", "Sunday")] == [0, 6]
    for wrong in ("24:00-01:00", "10:00-10:00", "10:70-11:00"):
        with pytest.raises(ValueError, match="hours"):
            span(wrong)
