"""`[[data]]` of live topics: what its columns may be, and which errors say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.data.source import ColumnPlan, DataSource, RecordingPlan
from grapevine_proto.errors import ConfigError

HEAD = "[[data]]\nkind = 'k'\nsource = 'mqtt'\n"


def _read(folder: Path, text: str) -> DataSource:
    (folder / "agent.toml").write_text(f"[agent]\nstate_dir = 'state'\n{HEAD}{text}")
    (source,) = load_config(folder / "agent.toml", {"HOME": str(folder)}).data
    return source


def test_a_topic_per_column(tmp_path: Path) -> None:
    source = _read(
        tmp_path,
        """target = { topic = "home/+/door", map = { open = "somebody", closed = 0 } }
        [data.columns]
        temperature = { topic = "home/+/temperature", scale = 0.1, offset = -1 }
        window = { topic = "home/+/window", path = "$.contact", map = { open = 1, CLOSED = 0 } }
        """,
    )
    assert source.columns == (("temperature", "temperature"), ("window", "window"))
    assert source.target == ("home/+/door",)
    assert source.recording == RecordingPlan(
        topic="",
        columns=(
            ColumnPlan(topic="home/+/temperature", scale=0.1, offset=-1.0),
            ColumnPlan(topic="home/+/window", path="$.contact", map=(("open", 1.0), ("closed", 0.0))),
        ),
        target=ColumnPlan(topic="home/+/door", map=(("open", "somebody"), ("closed", 0.0))),
    )
    assert DataSource.from_json(source.to_json()) == source


def test_the_sources_own_topic_and_a_columns(tmp_path: Path) -> None:
    text = "topic = 'z/+'\n[data.columns]\na = '$.a'\nb = { path = '$.b', scale = 2 }\nc = { topic = 'y/+' }"
    source = _read(tmp_path, text)
    assert source.recording is not None
    assert [each.topic for each in source.recording.columns] == ["", "", "y/+"]


def test_columns_of_one_topic_keep_their_paths_as_names(tmp_path: Path) -> None:
    source = _read(tmp_path, "topic = 'z/+'\n[data.columns]\na = { path = '$.a', offset = 1 }")
    assert source.columns == (("a", "$.a"),)
    assert source.recording is not None
    assert source.recording.columns == (ColumnPlan(path="$.a", offset=1.0),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("topic = 'z'\n[data.columns]\na = '$.x'\nb = '$.x'", ["a and b are both $.x of z", "remove one"]),
        ("topic = 'z'\n[data.columns]\na = '$.x'\nb = \"$['x']\"", ["a and b are both"]),
        ("[data.columns]\na = { topic = 't' }\nb = { topic = 't', scale = 2 }", ["a and b are both $ of t"]),
        ("topic = 't'\n[data.columns]\na = '$'\nb = { topic = 't' }", ["a and b are both $ of t"]),
        ("[data.columns]\na = '$.x'", ["topic is missing", "zigbee2mqtt/+"]),
        ("topic = 'z'\n[data.columns]\na = { topic = 't' }", ["no column's", "remove it"]),
        ("[data.columns]\na = { topic = 'h/+/a' }\nb = { topic = 'h/b' }", ["a has 1 +", "b has 0", "two [[data]]"]),
        ("[data.columns]\na = { topic = 'h/+/x' }\nb = { topic = '+/h/x' }", ["a and b", "of two devices"]),
        ("[data.columns]\na = { topic = 'h/#' }", ["h/#", "write + for their name"]),
        ("[data.columns]\na = { topic = 'h/x+' }", ["a.topic 'h/x+'", "no MQTT filter"]),
        ("[data.columns]\na = { topic = 'grapevine/v1/+/x' }", ["agents' own messages"]),
        ("[data.columns]\na = { topic = '' }", ["a.topic is ''"]),
        ("[data.columns]\na = { topic = 't', pfad = '$' }", ["no key 'pfad'", "path"]),
        ("[data.columns]\na = { topic = 't', path = 'x' }", ["'x' is no JSON path"]),
        ("[data.columns]\na = { topic = 't', scale = 0 }", ["a.scale is 0"]),
        ("[data.columns]\na = { topic = 't', offset = nan }", ["a.offset is nan"]),
        ("[data.columns]\na = { topic = 't', scale = true }", ["a.scale is True"]),
        ("[data.columns]\na = { topic = 't', map = 'open' }", ["a.map is no table"]),
        ("[data.columns]\na = { topic = 't', map = { open = 'yes' } }", ["open is 'yes'", "a number"]),
        ("[data.columns]\na = { topic = 't', map = { open = 1, OPEN = 0 } }", ["'open' and 'OPEN' are one word"]),
        ("[data.columns]\na = 7", ["neither text nor a table"]),
        (
            "target = { topic = 'h/+/d' }\n[data.columns]\na = { topic = 't' }",
            ["a has 0 +", "the target has 1 in 'h/+/d'"],
        ),
        ("target = { topic = 't/+x' }\n[data.columns]\na = { topic = 't' }", ["target", "no MQTT filter"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        _read(tmp_path, text)
    for each in told:
        assert each in str(raised.value)
