"""HTML as a tree, so that whatever is text is escaped by whoever writes the tree down."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from grapevine_agent.printable import printable

TAB = 4


def element(tag: str, *inside: Element | str | None, **attributes: str | float) -> Element:
    """An element. Of attributes' names a `_` at the end is dropped, others become `-`; None inside is left out.

    Characters that are not to be shown (control, direction) are replaced.
    """
    made = Element(tag, {_name(name): printable(str(value)) for name, value in attributes.items()})
    for each in inside:
        if isinstance(each, Element):
            made.append(each)
        elif each is not None:
            add_text(made, each)
    return made


def add_text(parent: Element, text: str) -> None:
    """Put text at the end of an element."""
    fit = printable(text.expandtabs(TAB), lines=True)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + fit
    else:
        parent.text = (parent.text or "") + fit


def written(root: Element) -> str:
    """The whole document."""
    return f"<!DOCTYPE html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n"


def _name(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")
