"""On which line a key is written: what `tomllib` reads is found, whatever stands around it."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from grapevine_tasks.toml_lines import line_of, lines_of

TEXT = '''\
a.b = 1  # [not.a.table]
[mqtt]
brokers = [ # a comment, ]
  "a#", "b]",
]
empty = [ ]
x = """
y = 3
[z]
""""
q = {a = 1, b = [1, {c = 2}], d = {}}
"k.y" = 'v'
[[data]]
path = "1"
[data.columns]
t = \'\'\'
[fake]\'\'\'
[[ data ]]
kind = 2020-01-01T00:00:00
[[data.sub]]
v = -1
[[data.sub]]
v = +inf
'''


def paths(content: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return set().union(*({(*at, key)} | paths(value, (*at, key)) for key, value in items))


def test_everything_that_tomllib_reads_has_a_line() -> None:
    assert set(lines_of(TEXT)) == paths(tomllib.loads(TEXT))


def test_the_lines_are_those_where_it_is_written() -> None:
    for path, line in (
        (("a", "b"), 1),
        (("mqtt", "brokers", 1), 4),
        (("mqtt", "x"), 7),
        (("mqtt", "q", "b", 1, "c"), 11),
        (("mqtt", "k.y"), 12),
        (("data", 0, "columns", "t"), 16),
        (("data", 1, "kind"), 19),
        (("data", 1, "sub", 1, "v"), 23),
    ):
        assert line_of(TEXT, path) == line, path


def test_what_is_not_there_is_on_the_line_of_its_table_or_on_none() -> None:
    assert line_of(TEXT, ("data", 1, "path")) == 18
    assert line_of(TEXT, ("trust", "servers")) == 0


@given(st.text(alphabet="ab.=[]{}\"'\\\n#, 1", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    found = lines_of(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())
    try:
        content = tomllib.loads(text)
    except ValueError:
        return
    assert set(found) == paths(content)
