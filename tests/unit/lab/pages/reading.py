"""Pages read as a browser reads them."""

from xml.etree.ElementTree import Element

import html5lib

NAMESPACE = "{http://www.w3.org/1999/xhtml}"
FETCHING = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping", "manifest", "cite"}


def parsed(html: str) -> Element:
    """The tree; anything that is not valid HTML is an exception."""
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    assert isinstance(root, Element)
    return root


def tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def all_of(root: Element, name: str) -> list[Element]:
    return [each for each in root.iter() if tag(each) == name]


def text_of(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def rows_of(root: Element) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell: what stands in the others."""
    rows = [[text_of(cell) for cell in row] for row in all_of(root, "tr")]
    return {first: others for first, *others in rows}


def asks_for(root: Element) -> list[str]:
    """Everything that a browser would fetch, run or obey."""
    found = [tag(each) for each in root.iter() if tag(each) in ("script", "link", "img", "iframe", "object", "base")]
    for each in root.iter():
        for name, value in each.attrib.items():
            if name in FETCHING or name.startswith("on") or (name.endswith("href") and not value.startswith("#")):
                found.append(f"{tag(each)} {name}={value}")
    styles = " ".join(text_of(each) for each in all_of(root, "style"))
    return found + [word for word in ("url(", "@import", "expression(") if word in styles]
