"""`[[data]]`: the sources that an owner configured, read strictly. Which keys there are depends on `source`.

every source      kind, name, source, max_bytes, reload_s
npz               path
csv               path, columns, target, time, separator, decimal, encoding
parquet           path, columns, target, time
images            path (a folder)
torchvision       path (the root), dataset, download
sqlite            path, query, columns, target, time
mqtt              topic, columns, target, every_s, resample, hold_s, keep_days, max_rows, devices (`config.sensors`)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from grapevine_agent.config.sensors import read_recording
from grapevine_agent.config.toml_reader import Table
from grapevine_agent.data.csv_dialect import is_encoding
from grapevine_agent.data.formats import FORMATS
from grapevine_agent.data.source import RELOAD_S, DataSource, Dialect
from grapevine_agent.data.torchvision_names import TORCHVISION_SETS
from grapevine_tasks.suggestions import did_you_mean

ENDINGS: Final = {
    ".npz": "npz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
_TABLES = ("csv", "parquet", "sqlite", "mqtt")  # sources with columns
_LARGEST = 1 << 50


def read_sources(
    tables: list[Table], make_path: Callable[[str], Path], recordings: Path, root: str
) -> tuple[DataSource, ...]:
    """The sources, in their order. `recordings` is where topics are recorded, `root` the topic root of the agent.

    Raises `ConfigError`, naming the key, its value and what to write.
    """
    sources: list[DataSource] = []
    for table in tables:
        with table.apart():
            source = _read_source(table, make_path, recordings, root)
            if any(other.name == source.name for other in sources):
                table.wrong("name", f"{source.name!r} names two sources; give each [[data]] a name of its own")
            sources.append(source)
            table.finish()
    return tuple(sources)


def _read_source(table: Table, make_path: Callable[[str], Path], recordings: Path, root: str) -> DataSource:
    named = table.text("source", "", choices=tuple(FORMATS))
    kind = table.text("kind", pattern=r"[a-z0-9-]{1,64}", hint='"digits-8x8"')
    if named == "mqtt":
        format_, path, default = "mqtt", recordings, kind
    else:
        text = table.text("path", hint='"digits.npz"')
        path = make_path(text)
        format_, default = named or _guess(table, text, path), path.stem or kind
    has_columns = format_ in _TABLES
    if format_ == "mqtt":
        columns, target, plan = read_recording(table, root)
    else:
        columns = _read_columns(table) if has_columns else ()
        target, plan = _read_target(table) if has_columns else (), None
    return DataSource(
        name=table.text("name", default[:64], max_length=64, pattern=r"[^\x00-\x1f\x7f]+", hint='"kitchen"'),
        kind=kind,
        path=path,
        format=format_,
        columns=columns,
        target=target,
        time=table.text("time", "") if has_columns and format_ != "mqtt" else "",
        dialect=_read_dialect(table) if format_ == "csv" else Dialect(),
        query=_read_query(table) if format_ == "sqlite" else "",
        dataset=_read_dataset(table) if format_ == "torchvision" else "",
        download=table.boolean("download", False) if format_ == "torchvision" else False,
        recording=plan,
        max_bytes=table.integer("max_bytes", 0, low=0, high=_LARGEST),
        reload_s=table.number("reload_s", RELOAD_S, low=1.0, high=86_400.0 * 365),
    )


def _guess(table: Table, text: str, path: Path) -> str:
    if path.suffix.lower() in ENDINGS:
        return ENDINGS[path.suffix.lower()]
    if text.endswith("/") or path.is_dir():
        return "images"
    raise table.error(
        "path",
        f"its ending says not what it is ({', '.join(ENDINGS)} or a folder of images); "
        f'write source = "…" with one of {", ".join(FORMATS)}',
    )


def _read_columns(table: Table) -> tuple[tuple[str, str], ...]:
    example = 'temperature = "Temperature (C)"'
    value = table.anything("columns")
    if value is None:
        return ()
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple((name, name) for name in dict.fromkeys(value))
    if not isinstance(value, dict) or not value:
        table.wrong("columns", f"must be a table of where each column is; write [data.columns] and {example}")
        return ()
    for name, found in value.items():
        if not isinstance(found, str):
            table.wrong("columns", f"{name} is no text: write {example}, and keys of the source above [data.columns]")
            return ()
    return tuple(value.items())


def _read_target(table: Table) -> tuple[str, ...]:
    value = table.anything("target")
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if value is not None and (not names or not all(isinstance(name, str) and name for name in names)):
        table.wrong("target", 'must be the name of a column, or a list of them; write target = "label"')
        return ()
    return names


def _read_dialect(table: Table) -> Dialect:
    dialect = Dialect(
        separator=table.text("separator", Dialect.separator),
        decimal=table.text("decimal", Dialect.decimal, choices=(".", ",")),
        encoding=table.text("encoding", Dialect.encoding, max_length=40),
    )
    if len(dialect.separator) != 1 or dialect.separator in '"\r\n' or not dialect.separator.isascii():
        table.wrong("separator", 'must be the one character that stands between cells; write separator = ";"')
    elif dialect.separator == dialect.decimal:
        key = "decimal" if dialect.decimal == "," else "separator"
        remedy = 'cells and fractions cannot both have it; write separator = ";" and decimal = ","'
        table.wrong(key, remedy, beside=["separator", "decimal"])
    if not is_encoding(dialect.encoding):
        table.wrong("encoding", 'is no encoding that Python knows; write encoding = "latin-1", or "utf-16"')
    return dialect


def _read_query(table: Table) -> str:
    query = table.text("query", hint='"SELECT temperature, humidity FROM readings ORDER BY at"', max_length=16_384)
    first = (query.split(None, 1) or [""])[0].lower()
    if first not in ("select", "with", "values"):
        table.wrong("query", "must be a SELECT: this agent reads databases and never changes one")
    return query


def _read_dataset(table: Table) -> str:
    dataset = table.text("dataset", hint='"MNIST"')
    if dataset not in TORCHVISION_SETS:
        table.wrong("dataset", did_you_mean(dataset, TORCHVISION_SETS))
    return dataset
