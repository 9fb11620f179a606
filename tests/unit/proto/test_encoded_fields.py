"""How a vector is written is said beside it, and what cannot be so is refused before anything is decoded."""

from __future__ import annotations

import pytest
from tests.unit.proto.samples import KEY, ME, OTHER, TASK

from grapevine_proto import wire_pb2 as pb
from grapevine_proto.codec import open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Body, Encoded, ModelUpdate
from grapevine_proto.topics import InboxTopic, TaskTopic, Topic

INBOX = InboxTopic(OTHER, ME)
OF_A_TASK = TaskTopic(ME, TASK, "model")
FLOATS = b"\0" * 8
LATER = pb.VectorEncoding(numbers=99)  # type: ignore[arg-type]
TOP_K = pb.VectorEncoding(numbers=pb.NUMBERS_TOP_K)
INT8 = pb.VectorEncoding(numbers=pb.NUMBERS_INT8)
HALF = pb.VectorEncoding(numbers=pb.NUMBERS_FLOAT16)


def read(wire: pb.ModelUpdate | pb.ServerModel | pb.ReleasedModel, topic: Topic = INBOX) -> Body:
    name = {pb.ModelUpdate: "update", pb.ServerModel: "server_model", pb.ReleasedModel: "released_model"}[type(wire)]
    message = pb.Message(version=1, sender=ME, session=1, sequence=1, created_at_ms=1, **{name: wire})  # type: ignore[arg-type]
    content = message.SerializeToString()
    envelope = pb.Envelope(
        message=content, public_key=KEY.public_key, signature=KEY.sign_message(topic.below_root(), content)
    )
    return open_envelope(envelope.SerializeToString(), topic).message.body


def refusal(wire: pb.ModelUpdate | pb.ServerModel | pb.ReleasedModel, topic: Topic = INBOX) -> str:
    with pytest.raises(WireError) as error:
        read(wire, topic)
    return error.value.reason


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (pb.ModelUpdate(task=TASK, full=FLOATS, encoding=LATER), "out-of-range"),
        (pb.ModelUpdate(task=TASK, delta=FLOATS, base=FLOATS, base_encoding=LATER), "out-of-range"),
        (pb.ModelUpdate(task=TASK, full=FLOATS, buffers=FLOATS, buffers_encoding=LATER), "out-of-range"),
        (pb.ModelUpdate(task=TASK, full=FLOATS, encoding=TOP_K), "malformed"),
        (pb.ModelUpdate(task=TASK, delta=FLOATS, base=FLOATS, base_encoding=TOP_K), "malformed"),
        (pb.ModelUpdate(task=TASK, full=FLOATS, buffers=FLOATS, buffers_encoding=INT8), "malformed"),
        (pb.ModelUpdate(task=TASK, delta=FLOATS, encoding=INT8), "malformed"),  # of no base
        (pb.ModelUpdate(task=TASK, full=FLOATS[:-1]), "malformed"),
        (pb.ReleasedModel(task=TASK, full=FLOATS, encoding=LATER), "out-of-range"),
        (pb.ReleasedModel(task=TASK, full=FLOATS, encoding=TOP_K), "malformed"),
    ],
)
def test_what_no_vector_is_written_in_is_refused(wire: pb.ModelUpdate | pb.ReleasedModel, reason: str) -> None:
    assert refusal(wire) == reason


@pytest.mark.parametrize(("encoding", "reason"), [(LATER, "out-of-range"), (TOP_K, "malformed")])
def test_a_servers_model_is_read_with_the_same_suspicion(encoding: pb.VectorEncoding, reason: str) -> None:
    assert refusal(pb.ServerModel(task=TASK, model_version=1, full=FLOATS, encoding=encoding), OF_A_TASK) == reason


def test_an_encoding_of_what_is_not_there_says_nothing() -> None:
    body = read(pb.ModelUpdate(task=TASK, full=FLOATS, base_encoding=LATER, encoding=HALF))
    assert isinstance(body, ModelUpdate)
    assert body.base is None
    assert isinstance(body.full, Encoded)
