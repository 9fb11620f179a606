"""A page to send to a colleague: one HTML file that asks nobody for anything, for people and for printers.

    chart = Chart("Accuracy", "round", "accuracy", [Series("mean", xs, ys)])
    write(Page("Digits, 20 nodes", [Heading("Quality"), chart]), Path("report.html"))

`sections.py` says what a page can hold, `document.py` makes HTML of it, `charts.py` draws with `scales.py`, and
`printed.py` puts the same tables on a terminal. Every text is text: markup in a peer's name is shown, not obeyed.
"""

from grapevine_lab.pages.document import html_of, write
from grapevine_lab.pages.sections import (
    Cell,
    Chart,
    Checks,
    Details,
    Figures,
    Heading,
    Numbers,
    Page,
    Section,
    Series,
    Table,
    Text,
)

__all__ = [
    "Cell",
    "Chart",
    "Checks",
    "Details",
    "Figures",
    "Heading",
    "Numbers",
    "Page",
    "Section",
    "Series",
    "Table",
    "Text",
    "html_of",
    "write",
]
