"""[[data]] is read strictly: each kind of source has its keys, and a mistake is told with what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.data.source import DataSource, Dialect, RecordingPlan
from grapevine_proto.errors import ConfigError

TOPIC = "[[data]]\nkind = 'k'\nsource = 'mqtt'\ntopic = 'home/+'\n"
CSV = "[[data]]\nkind = 'k'\npath = 'a.csv'\n"
COLUMNS = "[data.columns]\na = '$.a'\n"


def _read(folder: Path, text: str) -> tuple[DataSource, ...]:
    (folder / "agent.toml").write_text(f"[agent]\nstate_dir = 'state'\n{text}")
    return load_config(folder / "agent.toml", {"HOME": str(folder)}).data


@pytest.mark.parametrize(
    ("path", "format_"),
    [("a.npz", "npz"), ("a.CSV", "csv"), ("a.parquet", "parquet"), ("a.pq", "parquet"), ("pets/", "images")],
)
def test_the_ending_says_what_a_file_is(tmp_path: Path, path: str, format_: str) -> None:
    (source,) = _read(tmp_path, f"[[data]]\nkind = 'k'\npath = '{path}'")
    assert source.format == format_
    assert source.path == tmp_path / path


def test_topics_are_recorded_in_the_state_folder(tmp_path: Path) -> None:
    (source,) = _read(tmp_path, f"{TOPIC}target = '$.t'\nevery_s = 5\nresample = 'mean'\nkeep_days = 2\n{COLUMNS}")
    assert source.path == tmp_path / "state" / "recordings.db"
    assert source.name == "k"
    assert source.columns == (("a", "$.a"),)
    assert source.recording == RecordingPlan(topic="home/+", every_s=5, resample="mean", keep_days=2.0)
    assert DataSource.from_json(source.to_json()) == source


def test_a_dialect_is_read_and_reaches_the_process_that_reads_the_file(tmp_path: Path) -> None:
    (source,) = _read(tmp_path, f"{CSV}separator = ';'\ndecimal = ','\nencoding = 'latin-1'")
    assert source.dialect == Dialect(separator=";", decimal=",", encoding="latin-1")
    assert DataSource.from_json(source.to_json()) == source
    assert _read(tmp_path, CSV)[0].dialect == Dialect()
    assert _read(tmp_path, f'{CSV}separator = "\\t"')[0].dialect == Dialect(separator="\t")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[data]]\nkind = 'k'\npath = 'a.npz'\nsource = 'cvs'", ["data[1].source", "did you mean 'csv'"]),
        ("[[data]]\nkind = 'k'\npath = 'a.csv'\ncolums = ['a']", ["data[1].colums", "did you mean 'columns'"]),
        ("[[data]]\nkind = 'k'\npath = 'a.npz'\ntarget = 'a'", ["data[1].target", "unknown key"]),
        ("[[data]]\nkind = 'k'\npath = 'a.db'", ["data[1].query is missing", "SELECT"]),
        ("[[data]]\nkind = 'k'\npath = 'a.db'\nquery = 'DROP TABLE a'", ["data[1].query", "must be a SELECT"]),
        (
            "[[data]]\nkind = 'k'\npath = 'a'\nsource = 'torchvision'\ndataset = 'MNITS'",
            ["data[1].dataset", "did you mean 'MNIST'"],
        ),
        (TOPIC, ["data[1].columns is missing", "[data.columns]"]),
        (f"{TOPIC}[data.columns]\na = 'a'", ["data[1].columns", "no JSON path"]),
        (f"{TOPIC}{COLUMNS}every_s = 5", ["data[1].columns", "every_s", "above [data.columns]"]),
        (f"{TOPIC.replace('home/+', 'home/a+')}{COLUMNS}", ["data[1].topic", "no MQTT filter"]),
        (f"{TOPIC.replace('home/+', '#')}{COLUMNS}", ["data[1].topic", "agents' own messages"]),
        (f"{TOPIC.replace('home/+', '+/v1/#')}{COLUMNS}", ["data[1].topic", "agents' own messages"]),
        (f"{TOPIC}devices = 'all'\n{COLUMNS}", ["data[1].devices", '"separate"']),
        (f"{TOPIC}path = 'a'\n{COLUMNS}", ["data[1].path", "unknown key"]),
        (f"{CSV}separator = ';;'", ["data[1].separator", "';;'", 'write separator = ";"']),
        (f"{CSV}separator = ''", ["data[1].separator", "the one character"]),
        (f"{CSV}separator = '\"'", ["data[1].separator", "the one character"]),
        (f"{CSV}separator = '§'", ["data[1].separator", "the one character"]),
        (f"{CSV}decimal = ','", ["data[1].decimal", "cannot both have it", 'separator = ";"']),
        (f"{CSV}separator = '.'", ["data[1].separator", "cannot both have it"]),
        (f"{CSV}separator = ';'\ndecimal = ';'", ["data[1].decimal", 'one of ".", ","']),
        (f"{CSV}encoding = 'latin-0'", ["data[1].encoding", "'latin-0'", 'write encoding = "latin-1"']),
        (f"{CSV}encoding = 'hex'", ["data[1].encoding", "no encoding"]),
        (f"{CSV.replace('.csv', '.parquet')}separator = ';'", ["data[1].separator", "unknown key"]),
    ],
)
def test_a_mistake_is_told_with_its_key_and_remedy(tmp_path: Path, text: str, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    for part in says:
        assert part in str(caught.value)
