"""Files that are larger, longer or other than they look: they are read some rows at a time, or refused."""

from __future__ import annotations

import io
import os
import sqlite3
import struct
import zipfile
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grapevine_agent.data import csv_files
from grapevine_agent.data.formats import describe, load
from grapevine_agent.data.source import ContractKey, DataSource
from grapevine_agent.data.survey import survey
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec

NUMBER = DataContract(
    kind="k",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("a", "b")),
    target=FeatureSpec(name="y", dtype="float32", shape=()),
)


def _csv(folder: Path, text: str) -> DataSource:
    path = folder / "s.csv"
    path.write_text(text)
    return DataSource(name="s", kind="k", path=path, format="csv")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 256)


CELLS = ["1", "0", "-7", "2.5", "1e3", "", "NA", "true", "2026-03-01", "2026-03-01T12:00:00", "cat", "12:00:00"]
COLUMN = st.lists(st.sampled_from(CELLS), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=COLUMN, later=COLUMN)
def test_a_column_is_taken_for_what_it_would_be_if_it_were_read_at_once(
    first: list[str], later: list[str], small_blocks: None, tmp_path: Path
) -> None:
    cells = first * 40 + later  # what comes later stands in another block
    source = _csv(tmp_path, "a,b\n" + "\n".join(f"{cell},1" for cell in cells) + "\n")
    options = pa.csv.ConvertOptions(null_values=csv_files._GAPS, strings_can_be_null=True)
    whole = pa.csv.read_csv(source.path, convert_options=options)
    kind = whole["a"].type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or kind == pa.null()):
        with pytest.raises(TaskError, match="features are numbers"):
            load(source, None)
        return
    raw = load(source, None)
    numbers = [np.nan if cell is None else float(cell) for cell in whole["a"].to_pylist()]
    expected = np.stack([numbers, np.ones(len(cells))], 1)
    np.testing.assert_array_equal(raw.x, expected)
    assert describe(source, None).arrays["x"].dtype == raw.x.dtype


def test_numbers_of_many_blocks_come_in_their_order(small_blocks: None, tmp_path: Path) -> None:
    source = _csv(tmp_path, "a,b,y\n" + "\n".join(f"{k},{k / 4},{-k}" for k in range(5000)) + "\n")
    raw = load(source, NUMBER)
    assert raw.y is not None
    np.testing.assert_array_equal(raw.x[:, 1], np.arange(5000) / 4)
    np.testing.assert_array_equal(raw.y, -np.arange(5000))


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    source = _csv(tmp_path, "a,b,y\n1,2,3\n" + "9" * 3_000_000 + ",2,3\n")
    with pytest.raises(TaskError, match="a line is longer than 1,048,576 bytes: shorten it"):
        describe(source, NUMBER)


@pytest.mark.parametrize("format_", ["npz", "csv", "parquet", "sqlite"])
def test_a_pipe_is_not_waited_for(format_: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = DataSource(name="s", kind="k", path=tmp_path / "pipe", format=format_, query="SELECT 1")
    for ask in (describe, load):
        with pytest.raises(TaskError, match="it is a folder, a pipe or a device"):
            ask(source, NUMBER)


def test_a_table_that_grew_since_it_was_looked_at_is_read_again_later(tmp_path: Path, monkeypatch: Any) -> None:
    source = _csv(tmp_path, "a,b,y\n1,2,3\n")
    table = csv_files._look(source, ContractKey(NUMBER), 0, 0)
    _csv(tmp_path, "a,b,y\n1,2,3\n4,5,6\n")
    monkeypatch.setattr(csv_files, "_look", lambda *_: table)
    with pytest.raises(TaskError, match="has changed while it was read"):
        load(source, NUMBER)


def test_empty_cells_of_whole_numbers_are_known_before_they_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": [1, None, 3], "b": [1, 2, 3], "y": [1, 2, 3]})
    for number, statistics in enumerate((True, False)):
        path = tmp_path / f"{number}.parquet"
        pa.parquet.write_table(table, path, write_statistics=statistics)
        source = DataSource(name="s", kind="k", path=path, format="parquet")
        described = describe(source, NUMBER).arrays
        assert [described[name].dtype for name in ("x", "y")] == [np.dtype(np.float64), np.dtype(np.int64)]
        raw = load(replace(source, columns=(("a", "a"), ("b", "b"))), None)
        np.testing.assert_array_equal(raw.x, [[1, 1], [np.nan, 2], [3, 3]])


def _database(folder: Path, query: str) -> DataSource:
    path = folder / "s.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (a, b, y, picture)")
        connection.execute("INSERT INTO t VALUES (1, 2, 3, zeroblob(1000000))")
    return DataSource(name="s", kind="k", path=path, format="sqlite", query=query)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT a, b, hex(zeroblob(100000)) AS y FROM t", "a text of 200,000 characters; at most 65,536"),
        ("SELECT a, b, hex(zeroblob(500000000)) AS y FROM t", "makes a cell of more than 16,777,216 bytes"),
        ("SELECT a, b, picture AS y FROM t", "the column 'y' holds blobs"),
        (
            "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT a, a AS b, a AS y FROM n",
            "gives more than 1,000,000 rows",
        ),
    ],
)
def test_a_query_that_gives_too_much_is_refused_while_it_gives_it(query: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=told):
        describe(_database(tmp_path, query), NUMBER)


def test_pictures_beside_what_is_selected_are_no_trouble(tmp_path: Path) -> None:
    assert load(_database(tmp_path, "SELECT a, b, y FROM t"), NUMBER).x.tolist() == [[1, 2]]


def test_an_archive_whose_header_says_that_it_is_gigabytes_long_is_no_archive(tmp_path: Path) -> None:
    """Version 2 of the format has a length of 32 bits; zeros pack well."""
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**28) + bytes(2**28))
    with pytest.raises(TaskError, match="not an npz file"):
        describe(DataSource(name="s", kind="k", path=tmp_path / "s.npz"), None)


def test_an_array_that_is_announced_as_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    """A few kilobytes on disk that are 256 MB once unpacked."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (2**26,)})
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content.getvalue() + bytes(4 * 2**26))
    source = DataSource(name="s", kind="k", path=tmp_path / "s.npz", max_bytes=10**8)
    assert source.path.stat().st_size < 10**6
    assert describe(source, None).num_bytes == 4 * 2**26
    with pytest.raises(TaskError, match="max_bytes allows 100,000,000"):
        survey(source)


def _png(width: int, height: int) -> bytes:
    """An image of one colour that is far smaller than its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = zlib.compress((b"\0" + bytes(width)) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def test_an_image_is_counted_by_its_pixels_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(_png(9000, 9000))
    source = DataSource(name="s", kind="k", path=tmp_path, format="images")
    described = describe(source, None)
    assert (tmp_path / "cat" / "1.png").stat().st_size < 10**6
    assert described.num_bytes >= 9000 * 9000
    assert described.working_bytes >= 10 * 9000 * 9000


def test_one_image_that_is_larger_than_the_others_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(_png(8, 8))
    (tmp_path / "cat" / "2.png").write_bytes(_png(12_000, 12_000))
    with pytest.raises(TaskError, match="12000 x 12000 pixels and others are 8 x 8"):
        load(DataSource(name="s", kind="k", path=tmp_path, format="images"), None)


def test_an_image_that_is_larger_than_any_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(
        _png(8, 8).replace(struct.pack(">II", 8, 8), struct.pack(">II", 50_000, 50_000))
    )
    with pytest.raises(TaskError, match="no image that can be read"):
        describe(DataSource(name="s", kind="k", path=tmp_path, format="images"), None)


def test_a_survey_of_pieces_tells_what_all_numbers_together_would(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 2, (300_000, 2))
    x[5, 0], x[6, 0] = np.nan, np.inf
    np.savez(tmp_path / "s.npz", x=x)
    (told,) = survey(DataSource(name="s", kind="k", path=tmp_path / "s.npz"))["columns"]
    whole = x.reshape(-1)[np.isfinite(x.reshape(-1))]
    assert told["mean"] == pytest.approx(whole.mean())
    assert told["std"] == pytest.approx(whole.std())
    assert (told["min"], told["max"]) == (whole.min(), whole.max())
    assert (told["missing"], told["infinite"]) == (1, 1)
