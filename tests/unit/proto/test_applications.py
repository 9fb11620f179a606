"""Applications on the wire: what is ours comes back, and whatever a stranger wrote is within bounds or refused."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_proto import application_pb2 as pb
from grapevine_proto import wire_pb2 as wire
from grapevine_proto.application import (
    ApplicationSpec,
    Component,
    Container,
    Hours,
    LabelTest,
    LearningTask,
    Preference,
    Where,
    offer,
)
from grapevine_proto.application_bodies import read_labels, read_offers, read_publication, read_traits
from grapevine_proto.application_codec import MAX_SPEC_BYTES, application_id, decode_application, encode_application
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.labels import MAX_LABELS
from grapevine_proto.messages import ApplicationPublication, Message, PeerAnnouncement
from grapevine_proto.records import MAX_APPS_PER_AUTHOR, RecordBook
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import AppTopic, PeerTopic, is_lasting, parse_below_root

KEY = SigningKey(bytes(range(32)))
ME = KEY.peer_id
IMAGE = f"registry.example:5000/lake/viewer@sha256:{'0f' * 32}"
IN_KITCHEN = LabelTest(key="room", operator="In", values=("kitchen", "hall"))
SPEC = ApplicationSpec(
    name="lakeside",
    author=ME,
    description="Two parts.\nOne of them learns.",
    components=(
        Component(
            name="digits",
            workload=LearningTask(task="ab" * 32, strategy="delta-sum", server=True, servers=(ME,)),
            replicas=5,
            hours=Hours(utc_offset_minutes=-210, spans=((1_320, 360),), days=(5, 6)),
            where=Where(
                traits=("accelerator",),
                data_kinds=("digits-8x8",),
                cores=2,
                memory_mb=512,
                terms=((IN_KITCHEN, LabelTest(key="loud", operator="DoesNotExist")),),
                preferred=(Preference(weight=7, term=(IN_KITCHEN,)),),
                apart_by="site",
            ),
        ),
        Component(
            name="viewer",
            workload=Container(image=IMAGE, command=("serve", "--all"), environment=(("A", "1"),), ports=(8080,)),
            replicas=1,
        ),
    ),
)


def test_an_application_comes_back_and_the_same_one_has_the_same_id() -> None:
    encoded = encode_application(SPEC)
    assert decode_application(encoded) == SPEC
    assert application_id(encode_application(SPEC)) == application_id(encoded)
    assert application_id(encode_application(replace(SPEC, name="hilltop"))) != application_id(encoded)


@given(st.integers(min_value=0, max_value=len(encode_application(SPEC)) - 1))
def test_one_that_is_cut_off_is_another_or_none(length: int) -> None:
    encoded = encode_application(SPEC)[:length]
    with contextlib.suppress(WireError):
        assert decode_application(encoded) != SPEC


@given(st.binary(max_size=300))
def test_noise_is_refused_and_raises_nothing_else(noise: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_application(noise)


def _wire(change: str) -> bytes:
    spec = pb.ApplicationSpec.FromString(encode_application(SPEC))
    learning, viewer = spec.components
    match change:
        case "no author":
            spec.author = "Nobody!"
        case "no name":
            spec.name = "Two Words"
        case "no components":
            del spec.components[:]
        case "many components":
            for number in range(20):
                spec.components.add().CopyFrom(viewer)
                spec.components[-1].name = f"v-{number}"
        case "one name twice":
            viewer.name = learning.name
        case "no workload":
            viewer.ClearField("container")
        case "a tag for an image":
            viewer.container.image = "nginx:latest"
        case "an option for an image":
            viewer.container.image = f"--privileged@sha256:{'0' * 64}"
        case "a word with a control character":
            viewer.container.command.append("\x1b[2J")
        case "no task's id":
            learning.learning.task = "digits"
        case "an operator of later":
            learning.where.terms[0].tests[0].operator = 9  # type: ignore[assignment]
        case "values for exists":
            learning.where.terms[0].tests[0].operator = pb.LABEL_OPERATOR_EXISTS
        case "hours of no day":
            learning.hours.spans[0].begin = 1_500
        case "many replicas":
            viewer.replicas = 1 << 31
        case "much memory":
            viewer.container.memory_mb = 1 << 30
        case "a long description":
            spec.description = "x" * 2_001
    return spec.SerializeToString()


@pytest.mark.parametrize(
    "change",
    [
        "no author",
        "no name",
        "no components",
        "many components",
        "one name twice",
        "no workload",
        "a tag for an image",
        "an option for an image",
        "a word with a control character",
        "no task's id",
        "an operator of later",
        "values for exists",
        "hours of no day",
        "many replicas",
        "much memory",
        "a long description",
    ],
)
def test_what_is_out_of_bounds_is_refused(change: str) -> None:
    with pytest.raises(WireError):
        decode_application(_wire(change))


def test_more_bytes_than_may_travel_are_refused_unread() -> None:
    with pytest.raises(WireError, match="too-big"):
        decode_application(b"\x0a" * (MAX_SPEC_BYTES + 1))
    with pytest.raises(WireError, match="too-big"):
        read_publication(wire.ApplicationPublication(spec=b"\x0a" * (MAX_SPEC_BYTES + 1)))
    with pytest.raises(WireError, match="malformed"):
        read_publication(wire.ApplicationPublication())


def test_it_travels_signed_on_its_authors_topic() -> None:
    topic = AppTopic(ME, "lakeside")
    assert parse_below_root(topic.below_root()) == topic
    assert is_lasting(topic)
    for body in (
        ApplicationPublication(spec=encode_application(SPEC)),
        ApplicationPublication(deleted=True, reason="the summer is over"),
    ):
        payload = seal(Message(sender=ME, session=1, sequence=1, body=body), topic, KEY)
        assert open_envelope(payload, topic).message.body == body
        with pytest.raises(WireError):
            open_envelope(payload, AppTopic(ME, "hilltop"))


def test_an_announcement_says_what_its_agent_has_and_would_run() -> None:
    body = PeerAnnouncement(
        labels=(("floor", "2"), ("room", "kitchen")),
        traits=("gossip-learning",),
        offers=(offer(ME, "lakeside", "viewer"),),
        running=(offer(ME, "lakeside", "digits"),),
    )
    topic = PeerTopic(ME, "announcement")
    payload = seal(Message(sender=ME, session=1, sequence=1, body=body), topic, KEY)
    assert open_envelope(payload, topic).message.body == body


def test_labels_traits_and_offers_of_strangers_are_few_and_have_their_form() -> None:
    many = [wire.Label(key=f"k{number}", value="v") for number in range(MAX_LABELS + 1)]
    for refused in (
        lambda: read_labels(many),
        lambda: read_labels([wire.Label(key="a", value="1"), wire.Label(key="a", value="2")]),
        lambda: read_labels([wire.Label(key="A b", value="1")]),
        lambda: read_labels([wire.Label(key="a", value="x\n")]),
        lambda: read_traits(["x"] * (MAX_LABELS + 1)),
        lambda: read_traits(["Not a trait"]),
        lambda: read_offers(["lakeside/viewer"], "offers"),
    ):
        with pytest.raises(WireError):
            refused()


def test_an_author_has_so_many_and_a_deletion_lets_the_name_be_used_again() -> None:
    book = RecordBook()

    def say(name: str, sequence: int, *, deleted: bool = False, expires_at_ms: int = 0) -> bool:
        topic = AppTopic(ME, name)
        spec = b"" if deleted else encode_application(replace(SPEC, name=name))
        message = Message(
            sender=ME,
            session=1,
            sequence=sequence,
            body=ApplicationPublication(spec=spec, deleted=deleted),
            expires_at_ms=expires_at_ms,
        )
        return book.accept(open_envelope(seal(message, topic, KEY), topic), 1_000)

    for number in range(MAX_APPS_PER_AUTHOR):
        assert say(f"app-{number}", 1)
    with pytest.raises(WireError, match="over-quota"):
        say("one-more", 1)
    assert say("app-0", 2, deleted=True, expires_at_ms=2_000)
    with pytest.raises(WireError, match="stale"):
        say("app-0", 1)
    assert say("app-0", 3)
    assert say("app-1", 2, deleted=True, expires_at_ms=2_000)
    assert [each.topic for each in book.expire(3_000)] == [AppTopic(ME, "app-1")]
    with pytest.raises(WireError, match="stale"):  # what was deleted does not come back once its deletion has run out
        say("app-1", 1)
