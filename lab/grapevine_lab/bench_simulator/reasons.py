"""Why something was not measured, as it may be published: without the names and the folders of this machine."""

from __future__ import annotations

import platform
import re

FOLDERS = "…/"
HOST = "…"
ADDRESS = "(an address)"
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>,;)\]]+", re.IGNORECASE)
_PRIVATE = re.compile(  # an IPv4 address of a private network, which no version looks like
    r"(?<![\w.=-])(?:10\.\d{1,3}|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?::\d+)?(?!\.?\w)"
)
_NAMED_HOST = re.compile(r"(?<=host=)(?P<quote>['\"])[^'\"]*(?P=quote)")  # as urllib3, and so pip, tells of one
# An absolute path, or one below a home: its last part says enough. What stands before it is not of a path's kind, so
# that a fraction, `and/or` and a relative path stay as they are.
_FOLDERS = re.compile(r"(?<![\w.~/…-])~?/(?:[^\s/'\":,;()\[\]<>]+/)+")
_IN_ROOT = re.compile(r"(?<![\w.~/…-])/(?:home|root|tmp|work)\b(?!/)")


def publishable(reason: str) -> str:
    """The same reason, of paths the last part, without colours, our name, and addresses of other machines."""
    text = _ADDRESS.sub(ADDRESS, _COLOUR.sub("", reason))
    text = _PRIVATE.sub(ADDRESS, _NAMED_HOST.sub(f"'{HOST}'", text))
    text = _IN_ROOT.sub(FOLDERS, _FOLDERS.sub(FOLDERS, text))
    names = {platform.node(), platform.node().partition(".")[0]} - {"", "localhost"}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", HOST, text)
    return text
