"""The tables of a page on a terminal, or in a file as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grapevine_lab.pages.sections import Table, shown

if TYPE_CHECKING:
    import rich.box
    import rich.table
    from rich.console import Console

PLAIN_WIDTH = 200  # of a file or a pipe: room for every row on a line of its own
MOST_WHOLE = 48  # letters of a name that is not broken


def print_table(table: Table, console: Console, *, boxed: bool = False) -> None:
    """Print it: with thin lines on a terminal, as Markdown with one row a line anywhere else; `boxed`: framed."""
    from rich import box  # noqa: PLC0415 - only for whoever prints

    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)
    plain = box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN
    console.print(to_rich(table, box.HEAVY_HEAD if boxed else plain))


def to_rich(table: Table, lines: rich.box.Box) -> rich.table.Table:
    """The same table for Rich, with lines of that kind. Markup in a cell is text."""
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = RichTable(
        box=lines,
        title=Text(table.caption) if table.caption else None,
        title_justify="left",
    )
    for k, heading in enumerate(table.headings):
        # On a narrow terminal headings and ranges break between words, and no word is cut.
        widest = max(map(len, heading.split()), default=0)
        is_number = table.is_number(k)
        is_whole = not is_number and max((len(shown(row[k])) for row in table.rows), default=0) <= MOST_WHOLE
        made.add_column(Text(heading), justify="right" if is_number else "left", no_wrap=is_whole, min_width=widest)
    for i, row in enumerate(table.rows):
        if table.last_is_total and i == len(table.rows) - 1:
            made.add_section()
        made.add_row(*(Text(shown(cell)) for cell in row))
    return made
