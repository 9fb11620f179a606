"""Whatever a file holds, whatever it is: a look ends with a reason, and lets nothing else out."""

from __future__ import annotations

import os
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from grapevine_agent.data import formats as module
from grapevine_agent.data.inspection import inspect
from grapevine_agent.data.judging import Judge
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource, Dialect
from grapevine_agent.data.survey import survey
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec

TABLE = DataContract(
    kind="k",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,), columns=("a", "b")),
    target=FeatureSpec(name="y", dtype="int64", shape=()),
    num_classes=3,
)
ARRAYS = DataContract(
    kind="k",
    features=FeatureSpec(name="x", dtype="float32", shape=(2,)),
    target=FeatureSpec(name="y", dtype="int64", shape=()),
    num_classes=3,
)
PICTURES = DataContract(
    kind="k",
    features=FeatureSpec(name="x", dtype="float32", shape=(4, 4)),
    target=FeatureSpec(name="y", dtype="int64", shape=()),
    num_classes=2,
    classes=("cat", "dog"),
)
NUM = 30


def _table() -> Any:
    k = np.arange(NUM)
    return pyarrow.table({"a": k / 4, "b": k, "y": k % 3})


def _csv(folder: Path) -> DataSource:
    pyarrow.csv.write_csv(_table(), folder / "s.csv")
    return DataSource(name="s", kind="k", path=folder / "s.csv", format="csv")


def _parquet(folder: Path) -> DataSource:
    pyarrow.parquet.write_table(_table(), folder / "s.parquet")
    return DataSource(name="s", kind="k", path=folder / "s.parquet", format="parquet")


def _sqlite(folder: Path) -> DataSource:
    with closing(sqlite3.connect(folder / "s.db")) as connection, connection:
        connection.execute("CREATE TABLE t (a, b, y)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", [(k / 4, k, k % 3) for k in range(NUM)])
    return DataSource(name="s", kind="k", path=folder / "s.db", format="sqlite", query="SELECT * FROM t")


def _npz(folder: Path) -> DataSource:
    k = np.arange(NUM)
    np.savez_compressed(folder / "s.npz", x=np.stack([k / 4, k], 1), y=k % 3)
    return DataSource(name="s", kind="k", path=folder / "s.npz")


FILES = {"csv": _csv, "parquet": _parquet, "sqlite": _sqlite, "npz": _npz}


def _contract(source: DataSource) -> DataContract:
    return {"npz": ARRAYS, "images": PICTURES}.get(source.format, TABLE)


def _ends_with_a_reason(source: DataSource) -> str:
    """All ways to look at a source: each is good, or says why not. The reason, or nothing."""
    contract = _contract(source)
    looked = inspect(source, contract)
    match = match_source(contract, [source], look=lambda *_: looked)
    for ask in (lambda: survey(source), lambda: load_samples(contract, source)):
        with suppress(TaskError):  # and nothing else
            ask()
    if not match:
        assert str(match).startswith("s: ")
        with pytest.raises(TaskError):
            load_samples(contract, source)
        return str(match)
    load_samples(contract, source)  # a check means yes
    return ""


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_whole_files_are_good(make: Callable[[Path], DataSource], tmp_path: Path) -> None:
    assert _ends_with_a_reason(make(tmp_path)) == ""


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_damage_at_any_place_ends_with_a_reason_or_does_no_harm(
    make: Callable[[Path], DataSource], tmp_path: Path
) -> None:
    source = make(tmp_path)
    whole = source.path.read_bytes()
    rng = np.random.default_rng(1)
    step = max(1, len(whole) // 25)
    for length in range(0, len(whole), step):
        source.path.write_bytes(whole[:length])
        os.utime(source.path, ns=(length, length + 1))
        _ends_with_a_reason(source)
    for number in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 1 + number % 4):
            damaged[place] = rng.integers(0, 256)
        source.path.write_bytes(bytes(damaged))
        os.utime(source.path, ns=(number, 10_000 + number))
        _ends_with_a_reason(source)


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 5000, bytes(range(256)) * 40, b"PK\x03\x04" + b"x" * 100, b"PAR1" * 30, b"a" * 100_000, b"\n" * 999],
    ids=["empty", "zeros", "bytes", "zip", "parquet", "long", "lines"],
)
def test_a_file_of_something_else_is_a_reason(
    make: Callable[[Path], DataSource], content: bytes, tmp_path: Path
) -> None:
    source = make(tmp_path)
    source.path.write_bytes(content)
    assert _ends_with_a_reason(source)


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
@pytest.mark.parametrize("what", ["folder", "pipe", "device", "nothing", "loop"])
def test_what_is_no_file_is_a_reason_and_is_not_waited_for(
    make: Callable[[Path], DataSource], what: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    source.path.unlink()
    match what:
        case "folder":
            source.path.mkdir()
        case "pipe":
            os.mkfifo(source.path)
        case "device":
            source.path.symlink_to("/dev/zero")
        case "loop":
            source.path.symlink_to(source.path)
    assert _ends_with_a_reason(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_file_that_may_not_be_read_is_a_reason(make: Callable[[Path], DataSource], tmp_path: Path) -> None:
    source = make(tmp_path)
    source.path.chmod(0)
    assert "ermission" in _ends_with_a_reason(source)


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_file_that_shrinks_while_it_is_read_is_a_reason(
    make: Callable[[Path], DataSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path)
    visit = Judge.visit

    def shrink(judge: Judge, row: int, arrays: Any) -> None:
        os.truncate(source.path, 40)
        visit(judge, row, arrays)

    monkeypatch.setattr(Judge, "visit", shrink)
    inspect(source, _contract(source))
    _ends_with_a_reason(source)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.ones((9, 2)), "y": np.int64(1)}, "y is a single number"),
        ({"x": np.ones((9, 2), complex), "y": np.zeros(9, int)}, "x holds complex128"),
        ({"x": np.ones((9, 2)), "y": np.array([{}] * 9)}, "y holds object"),
        ({"x": np.array([[1], [1, 2]], object), "y": np.zeros(2, int)}, "shape"),
        ({"x": np.ones((9, 2)), "y": np.zeros(9, "M8[s]")}, "y holds datetime64"),
        ({"x": np.zeros(9, [("a", "f4"), ("b", "f4")]), "y": np.zeros(9, int)}, "shape"),
        ({"x": np.array(["a"] * 9), "y": np.zeros(9, int)}, "shape"),
        ({"x": np.ones((0, 2)), "y": np.zeros(0, int)}, "0 samples"),
        ({"y": np.zeros(9, int)}, "no array 'x'"),
    ],
)
def test_arrays_that_are_none_are_a_reason(arrays: Any, told: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **arrays)
    assert told in _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.npz"))


def test_what_is_pickled_in_an_archive_is_not_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    np.savez(tmp_path / "s.npz", x=np.array([Malicious()] * 9), y=np.zeros(9, int))
    assert _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.npz"))
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("x.pkl", b"cposix\nsystem\n(S'true'\ntR.")
        archive.writestr("x.npy", b"cposix\nsystem\n(S'true'\ntR.")
    assert _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.npz"))
    assert not (tmp_path / "ran").exists()


def test_arrays_in_fortrans_order_are_judged_and_told_by_their_own_index(tmp_path: Path) -> None:
    x = np.asfortranarray(np.ones((9, 2)))
    x[7, 1] = np.nan
    np.savez(tmp_path / "s.npz", x=x, y=np.zeros(9, int))
    assert "x[7, 1]: nan" in _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.npz"))


def test_a_database_that_somebody_else_has_locked_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _sqlite(tmp_path)
    connect = sqlite3.connect
    with closing(connect(source.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, **kw | {"timeout": 0.05}))
        assert "locked" in _ends_with_a_reason(source)
        other.rollback()
    assert _ends_with_a_reason(source) == ""


@pytest.fixture
def pets(tmp_path: Path) -> DataSource:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(5):
            Image.fromarray(np.full((4, 4), 10 * k, np.uint8)).save(tmp_path / name / f"{k}.png")
    return DataSource(name="s", kind="k", path=tmp_path, format="images")


def test_any_damage_to_an_image_is_found_before_it_is_trained_on(pets: DataSource) -> None:
    assert _ends_with_a_reason(pets) == ""
    image = pets.path / "dog" / "3.png"
    whole = image.read_bytes()
    for length in range(0, len(whole) - 12, 5):  # the last chunk only says that it is the last
        image.write_bytes(whole[:length])
        told = _ends_with_a_reason(pets)  # none where all pixels are still there
        assert ("3.png" in told) or (length > len(whole) // 2 and not told)
    image.write_bytes(whole)
    (pets.path / "dog" / "pipe.png").symlink_to("/dev/zero")
    os.mkfifo(pets.path / "dog" / "9.png")
    assert _ends_with_a_reason(pets) == ""  # what is no file is no image


def test_a_folder_of_images_that_is_a_file_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("cat")
    assert _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s", format="images"))


def test_whatever_a_library_lets_out_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: Any) -> None:
        raise ZeroDivisionError("in some library")

    source = _npz(tmp_path)
    for name in ("describe", "examine", "load"):
        monkeypatch.setattr(sys.modules[module.FORMATS["npz"]], name, stumble)
    assert "ZeroDivisionError: in some library" in _ends_with_a_reason(source)


@pytest.mark.parametrize(
    ("content", "dialect", "advice"),
    [
        ("a;b;y\n1,5;2;0\n2,5;3;1\n", Dialect(), 'separator = ";" and decimal = ","'),
        ("a;b;y\n1.5;2;0\n2.5;3;1\n", Dialect(), 'write separator = ";" in'),
        ("a\tb\ty\n1.5\t2\t0\n2.5\t3\t1\n", Dialect(), r'separator = "\t"'),
        ("a;b;y\n1,5;2;0\n2,5;3;1\n", Dialect(separator=";"), 'write decimal = "," in'),
        ("a,b,y\n1.5,2,0\n2.5,3,1\n", Dialect(separator=";", decimal=","), 'separator = "," and decimal = "."'),
        ("a,b,y,é\n1.5,2,0,1\n2.5,3,1,1\n", Dialect(), 'encoding = "latin-1"'),
        ("a,b,y,€\n1.5,2,0,1\n2.5,3,1,1\n", Dialect(), 'encoding = "windows-1252"'),
        ("a,b,y\n1.5,2,0\n2.5,3,1\n", Dialect(encoding="ascii"), ""),
    ],
)
def test_how_a_file_would_be_read_is_proposed_and_the_proposal_reads_it(
    content: str, dialect: Dialect, advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content.encode("windows-1252"))
    source = DataSource(name="s", kind="k", path=path, format="csv", dialect=dialect)
    told = _ends_with_a_reason(source)
    assert advice in told
    assert bool(told) == bool(advice)
    if advice:
        keys = dict(
            part.split(" = ") for part in told.split("; write ")[-1].removesuffix(" in this [[data]]").split(" and ")
        )
        proposed = {key: value.strip('"').replace("\\t", "\t") for key, value in keys.items()}
        better = DataSource(
            name="s",
            kind="k",
            path=path,
            format="csv",
            dialect=Dialect(**{"separator": dialect.separator, "decimal": dialect.decimal} | proposed),
        )
        assert load_samples(TABLE, better).x.max() <= 3.0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp437"])
def test_a_file_is_read_as_its_owner_says_with_or_without_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes("a;b;y;é\n1,5;2;0;1\n2,5;3;1;1\n".encode(encoding))
    dialect = Dialect(separator=";", decimal=",", encoding=encoding)
    source = DataSource(name="s", kind="k", path=tmp_path / "s.csv", format="csv", dialect=dialect)
    told = survey(source)
    assert told["available_columns"] == ["a", "b", "y", "é"]
    assert _ends_with_a_reason(source) == ""


def test_text_in_a_column_that_is_not_utf8_is_a_reason_and_no_class(tmp_path: Path) -> None:
    for first in ("no", "né"):
        (tmp_path / "s.csv").write_bytes(f"a,b,y\n1,2,{first}\n".encode("latin-1") + b"1,2,no\n" * 9 + b"1,2,\xe9\n")
        told = _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.csv", format="csv"))
        assert "it is not UTF-8: there is other text in the column 'y'" in told
        assert 'encoding = "latin-1"' in told


def test_two_columns_of_one_name_are_a_reason(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,a,b,y\n1,2,3,0\n")
    told = _ends_with_a_reason(DataSource(name="s", kind="k", path=tmp_path / "s.csv", format="csv"))
    assert "has 2 columns that are named 'a'" in told


def test_a_label_column_of_texts_and_numbers_is_a_reason(tmp_path: Path) -> None:
    """As numbers some would be classes by their number, as texts by their name."""
    source = _sqlite(tmp_path)
    with closing(sqlite3.connect(source.path)) as connection, connection:
        connection.execute("INSERT INTO t VALUES (1, 2, 'one')")
    named = replace(TABLE, classes=("zero", "one", "two"))
    looked = inspect(source, named)
    told = str(match_source(named, [source], look=lambda *_: looked))
    assert "the column 'y' holds texts and numbers" in told
    assert 'CAST("y" AS TEXT)' in told
