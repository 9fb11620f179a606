"""The tables that a run leaves: the same bytes for the same run, and read back to the bit."""

import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.unit.lab.simulator.test_measurements import READING, SAMPLE, swarm

from grapevine_lab.simulator.measurements import Measurements, Reading, Sample
from grapevine_lab.simulator.tables import DOCS_KEY, read_tables, write_tables
from grapevine_proto.errors import StoreError

FILES = ["models.csv", "models.parquet", "nodes.csv", "nodes.parquet"]


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_tables(swarm(), tmp_path / "run")
    assert [path.name for path in written] == FILES
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES  # and nothing half written
    assert read_tables(tmp_path / "run") == swarm()


def test_two_writes_are_the_same_bytes(tmp_path: Path) -> None:
    write_tables(swarm(), tmp_path / "one")
    write_tables(swarm(), tmp_path / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_csv_holds_what_was_measured_in_words_and_full_precision(tmp_path: Path) -> None:
    odd = replace(READING, loss=0.1 + 0.2, metric=math.nan, time_s=1e-9)
    write_tables(Measurements([odd, SAMPLE, replace(SAMPLE, staleness_bound=-math.inf, online=False)]), tmp_path)
    with (tmp_path / "models.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == [field.name for field in fields(Reading)]
    assert float(row["loss"]) == odd.loss
    assert float(row["time_s"]) == odd.time_s
    assert (row["metric"], row["model"], row["num_evaluated"]) == ("nan", "merged", "360")
    with (tmp_path / "nodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(Sample)]
    assert [row["staleness_bound"] for row in rows] == ["inf", "-inf"]
    assert [row["online"] for row in rows] == ["true", "false"]
    assert [row["server"] for row in rows] == ["reachable"] * 2


def test_what_is_not_finite_survives_parquet(tmp_path: Path) -> None:
    odd = Measurements([replace(READING, loss=math.nan, metric=math.inf), replace(SAMPLE, staleness=math.nan)])
    write_tables(odd, tmp_path)
    assert read_tables(tmp_path) == odd


def test_a_parquet_file_says_what_its_columns_hold(tmp_path: Path) -> None:
    from pyarrow import parquet

    write_tables(Measurements(), tmp_path)
    schema = parquet.read_schema(tmp_path / "nodes.parquet")
    docs = json.loads(schema.metadata[DOCS_KEY])
    assert list(docs) == schema.names == [field.name for field in fields(Sample)]
    assert docs["joules"] == "energy drawn since the run began, in joules; nan where the draw is not known"
    assert "reachable" in docs["server"]
    types = {name: str(schema.field(name).type) for name in ("bytes_sent", "joules", "online", "server")}
    assert types == {"bytes_sent": "int64", "joules": "double", "online": "bool", "server": "string"}


def test_a_run_without_measurements_is_a_run(tmp_path: Path) -> None:
    write_tables(Measurements(), tmp_path)
    assert read_tables(tmp_path) == Measurements()


def test_a_run_replaces_the_one_before_it(tmp_path: Path) -> None:
    write_tables(swarm(seeds=(1, 2)), tmp_path)
    write_tables(swarm(seeds=(3,)), tmp_path)
    assert read_tables(tmp_path) == swarm(seeds=(3,))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no models.parquet in .*: name the folder of a finished run"):
        read_tables(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_tables(swarm(), tmp_path)
    path = tmp_path / "nodes.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"nodes.parquet is damaged"):
        read_tables(tmp_path)


def test_a_table_of_another_version_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    from pyarrow import parquet

    write_tables(swarm(), tmp_path)
    table = parquet.read_table(tmp_path / "nodes.parquet")
    parquet.write_table(table.drop_columns(["joules"]), tmp_path / "nodes.parquet")
    with pytest.raises(StoreError, match="has no column joules: another version of Grapevine wrote it"):
        read_tables(tmp_path)


def test_an_unknown_word_in_a_file_is_an_error_and_not_another_word(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    write_tables(Measurements([READING]), tmp_path)
    table = parquet.read_table(tmp_path / "models.parquet")
    place = table.column_names.index("model")
    parquet.write_table(table.set_column(place, "model", pa.array(["best"])), tmp_path / "models.parquet")
    with pytest.raises(StoreError, match="model holds a word that is none of working, merged, released"):
        read_tables(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match="cannot write the tables"):
        write_tables(Measurements(), tmp_path / "run")
