import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_proto import topics
from grapevine_proto.errors import WireError
from grapevine_proto.topics import GroupTopic, InboxTopic, PeerTopic, TaskTopic, Topic

ids = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
every_topic = st.one_of(
    st.builds(PeerTopic, ids, st.sampled_from(["announcement", "state", "heartbeat"])),
    st.builds(TaskTopic, ids, ids, st.sampled_from(["manifest", "review", "server", "model", "metrics"])),
    st.builds(InboxTopic, ids, ids),
    st.builds(GroupTopic, ids, ids, ids),
)


@given(topic=every_topic, root=st.sampled_from(["grapevine/v1", "farm"]))
def test_a_topic_that_was_built_parses_to_itself(topic: Topic, root: str) -> None:
    assert topics.parse(root, topics.build(root, topic)) == topic


@given(topic=every_topic)
def test_no_topic_has_more_than_seven_slashes(topic: Topic) -> None:
    assert topics.build("grapevine/v1", topic).count("/") <= 7


@given(name=st.text(max_size=60))
def test_any_text_is_a_topic_or_a_wire_error(name: str) -> None:
    try:
        topic = topics.parse_below_root(name)
    except WireError:
        return
    assert topic.below_root() == name


@pytest.mark.parametrize(
    "name",
    [
        "grapevine/v1",
        "grapevine/v2/peer/a/state",
        "grapevine/v1/peer/A/state",
        "grapevine/v1/peer/a/state/x",
        "grapevine/v1/peer//state",
        "grapevine/v1/peer/../state",
        "grapevine/v1/peer/a/task/b/secrets",
        "grapevine/v1/inbox/a/b/c",
        "grapevine/v1/group/a/b",
        "grapevine/v1/peer/" + "a" * 65 + "/state",
    ],
)
def test_what_is_not_in_the_tree_is_refused(name: str) -> None:
    with pytest.raises(WireError, match="topic"):
        topics.parse("grapevine/v1", name)


def test_every_topic_has_one_writer() -> None:
    assert topics.writer_of(InboxTopic("to", "from")) == "from"
    assert topics.writer_of(TaskTopic("author", "task", "review")) == "author"
