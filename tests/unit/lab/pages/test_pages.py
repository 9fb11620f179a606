"""A page is valid, asks nobody for anything, and shows markup instead of obeying it."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.lab.pages.reading import all_of, asks_for, parsed, tag, text_of

from grapevine_lab.pages import (
    Chart,
    Checks,
    Details,
    Figures,
    Heading,
    Page,
    Section,
    Series,
    Table,
    Text,
    html_of,
    write,
)
from grapevine_lab.pages.printed import print_table
from grapevine_lab.pages.sections import shown

HOSTILE = "</style></pre><script>alert('1')</script><img src=x onerror=\"x\"> & &lt; [red]"


def page(name: str) -> Page:
    """Every kind of section, with a text that came from somebody in each place that takes one."""
    sections: list[Section] = [
        Figures({name: name, "messages": 12_345}),
        Heading(name),
        Text(f"{name}\n\n{name}"),
        Chart(
            name,
            name,
            name,
            [Series(name, [1, 2, 3], [0.1, 0.5, 0.9], [0.0, 0.4, 0.8], [0.2, 0.6, 1.0]), Series("b", [1, 3], [0, 1])],
            marks=[(2, name)],
            spans=[(1, 2, name)],
            caption=name,
        ),
        Heading("Numbers"),
        Table([name, "n"], [[name, 3], ["all", 4.0]], name, last_is_total=True),
        Heading("Setup"),
        Checks([(name, True), ("no", False), ("open", None)]),
        Details(name, f"{name}\n\tkey = 1"),
    ]
    return Page(name, sections, kind=name, lead=name, made=name)


@pytest.mark.parametrize("name", ["agent 0", HOSTILE])
def test_a_page_is_valid_html_and_asks_nobody_for_anything(name: str) -> None:
    assert asks_for(parsed(html_of(page(name)))) == []


def test_markup_in_any_text_is_shown_and_changes_nothing_else() -> None:
    harmless, hostile = parsed(html_of(page("agent 0"))), parsed(html_of(page(HOSTILE)))

    assert [tag(each) for each in hostile.iter()] == [tag(each) for each in harmless.iter()]
    whole = text_of(hostile)
    assert whole.count("</style></pre><script>alert('1')</script>") == text_of(harmless).count("agent 0")
    assert [text_of(each) for each in all_of(hostile, "h1")] == [HOSTILE]
    assert any(HOSTILE in each.get("aria-label", "") for each in all_of(hostile, "svg"))


def test_characters_that_mislead_are_replaced_and_line_feeds_of_a_file_kept() -> None:
    name = "a\u202eb\x00c\x1b[31m"
    root = parsed(html_of(Page(name, [Details("file", "one = 1\n\ttwo = 2\x07\n")])))

    assert [text_of(each) for each in all_of(root, "h1")] == ["a\ufffdb\ufffdc\ufffd[31m"]
    assert "".join(all_of(root, "pre")[0].itertext()) == "one = 1\n    two = 2\ufffd"


def test_only_styles_within_the_page_are_allowed() -> None:
    metas = {each.get("http-equiv"): each.get("content") for each in all_of(parsed(html_of(page("a"))), "meta")}

    policy = dict(part.split(" ", 1) for part in str(metas["Content-Security-Policy"]).split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_same_page_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(page("agent 0"), tmp_path / "new" / f"{name}.html")

    assert (tmp_path / "new" / "one.html").read_bytes() == (tmp_path / "new" / "two.html").read_bytes()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"one.html", "two.html"}


def test_a_reader_without_eyes_finds_headings_in_order_and_every_cell_named() -> None:
    root = parsed(html_of(page("agent 0")))

    levels = [tag(each) for each in root.iter() if tag(each) in ("h1", "h2", "h3")]
    assert levels == ["h1", "h2", "h3", "h2", "h2"]
    ids = {each.get("id") for each in root.iter()}
    links = [each.get("href", "")[1:] for each in all_of(root, "a")]
    assert len(links) == 3
    assert set(links) <= ids
    assert all(each.get("scope") for each in all_of(root, "th"))
    assert all(each.get("role") != "img" or each.get("aria-label") for each in all_of(root, "svg"))
    drawn = [each for each in all_of(root, "svg") if each.get("role") == "img"]
    assert "agent 0 from 0.1 to 0.9" in drawn[0].get("aria-label", "")
    assert root.get("lang") == "en"


def test_columns_of_numbers_stand_to_the_right() -> None:
    table = Table(["name", "n", "of", "holds", "7"], [["0 1", 1.5, "2 of 3", True, "x"], ["b", None, "–", False, "1"]])

    assert [table.is_number(k) for k in range(5)] == [False, True, True, False, False]
    assert not Table(["digits"], [["0 1"]], words=[0]).is_number(0)
    cells = all_of(parsed(html_of(Page("t", [table]))), "td")
    assert [text_of(each) for each in cells if each.get("class") == "number"] == ["1.5", "2 of 3", "–", "–"]


def test_numbers_have_four_digits_and_what_was_not_measured_is_a_dash() -> None:
    values = [0.123456, 12345.6, 1234567, 20.0, math.nan, math.inf, None, True, False, "as it is"]

    assert [shown(value) for value in values] == [
        *("0.1235", "12,346", "1,234,567", "20", "–", "–", "–", "yes", "NO", "as it is")
    ]


def test_on_a_terminal_a_table_says_the_same_and_obeys_no_markup() -> None:
    stream = io.StringIO()
    table = Table(["name", "value"], [["[red]eve[/]", 0.5], ["mean", None]], "[b]caption", last_is_total=True)

    print_table(table, Console(file=stream, width=60))

    lines = [line.strip() for line in stream.getvalue().splitlines()]
    assert "[b]caption" in lines
    assert [cell.strip() for cell in next(line for line in lines if "eve" in line).strip("|").split("|")] == [
        "[red]eve[/]",
        "0.5",
    ]
