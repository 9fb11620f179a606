"""The HTML document that a page becomes: the same page gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from xml.etree.ElementTree import Element

from grapevine_lab.pages.charts import figure_of, numbers_of
from grapevine_lab.pages.markup import element, written
from grapevine_lab.pages.sections import (
    Cell,
    Chart,
    Checks,
    Details,
    Figures,
    Heading,
    Page,
    Section,
    Table,
    Text,
    shown,
)

STYLE_FILE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
NARROW = 2  # columns of a table that needs no wide page
LEAST_PARTS = 3  # that a list of them is worth
OUTCOMES = {True: ("good", "yes"), False: ("bad", "NO"), None: ("open", "could not be told")}


def write(page: Page, path: Path) -> None:
    """Write a page to a file of its own; the folder is made, and a file that is there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(html_of(page), encoding="utf-8")
    beside.replace(path)


def html_of(page: Page) -> str:
    """The whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", page.title),
        element("style", STYLE_FILE.read_text(encoding="utf-8")),
    )
    main = element("main", *_parts(page.sections))
    footer = element("footer", element("p", page.made)) if page.made else None
    body = element("body", _header(page), main, footer)
    return written(element("html", head, body, lang=page.language))


def _header(page: Page) -> Element:
    parts = [section.text for section in page.sections if isinstance(section, Heading)]
    nav = None
    if len(parts) >= LEAST_PARTS:
        links = [element("li", element("a", text, href=f"#{_id(i)}")) for i, text in enumerate(parts)]
        nav = element("nav", element("ul", *links), aria_label="Parts of this page")
    return element(
        "header",
        element("p", _mark(), page.kind or "Grapevine", class_="kind"),
        element("h1", page.title),
        element("p", page.lead, class_="lead") if page.lead else None,
        nav,
    )


def _mark() -> Element:
    """A bunch of grapes."""
    berries = [(6, 9), (12, 9), (18, 9), (9, 14), (15, 14), (12, 19)]
    circles = [element("circle", cx=x, cy=y, r=2.7) for x, y in berries]
    stalk = element("path", d="M12 6c0-2 1.5-3.5 4-4")
    return element(
        "svg", *circles, stalk, viewBox="0 0 24 24", width=22, height=22, aria_hidden="true", class_="grapes"
    )


def _id(number: int) -> str:
    return f"part-{number + 1}"


def _parts(sections: Iterable[Section]) -> Iterable[Element]:
    """Each heading begins a part; what stands before the first is one, too."""
    parts: list[list[Section]] = [[]]
    for section in sections:
        if isinstance(section, Heading):
            parts.append([])
        parts[-1].append(section)
    number = 0
    for part in parts:
        if part and isinstance(part[0], Heading):
            heading = element("h2", part[0].text, id=_id(number))
            yield element("section", heading, *_inside(part[1:]), aria_labelledby=_id(number))
            number += 1
        elif part:
            yield element("section", *_inside(part))


def _inside(sections: Sequence[Section]) -> Iterable[Element]:
    """Charts that follow each other stand side by side where there is room."""
    for is_chart, group in groupby(sections, lambda section: isinstance(section, Chart)):
        made = [each for section in group for each in _element_of(section)]
        if is_chart:
            yield element("div", *made, class_="charts")
        else:
            yield from made


def _element_of(section: Section) -> list[Element]:
    match section:
        case Heading():
            return [element("h2", section.text)]
        case Text():
            return [element("p", each.strip()) for each in section.text.split("\n\n") if each.strip()]
        case Figures():
            pairs = [
                element("div", element("dt", name), element("dd", shown(value)))
                for name, value in section.values.items()
            ]
            return [element("dl", *pairs, class_="figures")] if pairs else []
        case Checks():
            return [element("ul", *(_check(*item) for item in section.items), class_="checks")] if section.items else []
        case Table():
            return [_table(section)]
        case Chart():
            return [figure_of(section, _table(numbers_of(section)))]
        case Details():
            opened = {"open": ""} if section.is_open else {}
            text = element("pre", element("code", section.text.rstrip("\n")), tabindex="0")
            return [element("details", element("summary", section.title), text, class_="looked-up", **opened)]


def _check(text: str, holds: bool | None) -> Element:
    style, word = OUTCOMES[holds]
    return element("li", element("b", word), element("span", text), class_=style)


def _table(table: Table) -> Element:
    style = [{"class_": "number"} if table.is_number(k) else {} for k in range(len(table.headings))]
    headings = [
        element("th", text, scope="col", **style[k]) if text else element("td") for k, text in enumerate(table.headings)
    ]
    rows = [element("tr", *(_cell(cell, k, style[k]) for k, cell in enumerate(row))) for row in table.rows]
    if table.last_is_total and rows:
        rows[-1].set("class", "total")
    caption = element("caption", table.caption) if table.caption else None
    width = {"class_": "narrow"} if len(table.headings) <= NARROW else {}
    made = element("table", caption, element("thead", element("tr", *headings)), element("tbody", *rows), **width)
    named = {"aria_label": table.caption} if table.caption else {}
    return element("div", made, class_="scrolls", tabindex="0", role="group", **(named or {"aria_label": "Table"}))


def _cell(cell: Cell, column: int, style: dict[str, str]) -> Element:
    text = shown(cell)
    if isinstance(cell, bool):
        return element("td", element("b", text, class_=OUTCOMES[cell][0]))
    if column == 0 and text:
        return element("th", text, scope="row", **style)
    return element("td", text, **style)
