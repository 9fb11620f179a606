"""Records by eight bytes: digests that do not depend on the order, and bodies that stay within their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proto.samples import OTHER, TASK

from grapevine_proto import messages as m
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError
from grapevine_proto.short_names import digest_of, parted, read_batch, read_digests, read_request, short_name
from grapevine_proto.topics import TaskTopic

SEQUENCES = st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(0, 2**53), max_size=20)


@given(SEQUENCES, st.randoms())
def test_a_digest_does_not_depend_on_the_order(sequences: dict[bytes, int], shuffle: object) -> None:
    items = list(sequences.items())
    shuffle.shuffle(items)  # type: ignore[attr-defined]
    assert digest_of(dict(items)) == digest_of(sequences) < 2**64


def test_nothing_has_the_digest_nothing_and_every_sequence_counts() -> None:
    name = short_name(TaskTopic(OTHER, TASK, "review"))
    assert digest_of({}) == 0
    assert len({digest_of({name: sequence}) for sequence in range(50)}) == 50


@given(SEQUENCES, st.integers(1, 20))
def test_of_many_records_the_newest_are_told(sequences: dict[bytes, int], most: int) -> None:
    told: dict[bytes, int] = {}
    for each in parted(sequences, most):
        assert 0 < len(each.sequences) <= m.MAX_NAMED
        told |= each.sequences
    assert len(told) == min(most, len(sequences))
    left = sequences.keys() - told.keys()
    assert not left or max(sequences[name] for name in left) <= min(told.values())


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_digests(pb.RecordDigests(names=b"1234567", sequences=[1])),
        lambda: read_digests(pb.RecordDigests(names=b"12345678", sequences=[1, 2])),
        lambda: read_digests(pb.RecordDigests(names=b"12345678", sequences=[1 << 60])),
        lambda: read_request(pb.RecordRequest(names=bytes(8 * (m.MAX_NAMED + 1)))),
        lambda: read_batch(pb.RecordBatch(records=[pb.CarriedRecord(topic=f"peer/{OTHER}/state")])),
        lambda: read_batch(pb.RecordBatch(records=[pb.CarriedRecord(topic=f"peer/{OTHER}/task/{TASK}/server")])),
        lambda: read_batch(pb.RecordBatch(records=[pb.CarriedRecord(topic="somewhere")])),
    ],
)
def test_what_is_not_within_its_bounds_is_refused(read: object) -> None:
    with pytest.raises(WireError):
        read()  # type: ignore[operator]
