"""Who may ask, and what every answer carries: the rules between the page and everything else in a browser.

A web page of anybody's can make a browser ask 127.0.0.1. It must not read an answer, nor have anything done:

    Host      names what we listen on, so that a name that a stranger has pointed at us ("DNS rebinding") is refused
    Origin    where a browser sends one, is the page's own
    Sec-Fetch where a browser sends them, say that our own page asks, or that somebody opens the page
    token     for actions; a header, which no foreign page can set
    CSP       the page loads and runs what comes from here, and nothing else
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grapevine_agent.net.urls import is_loopback

MOST_TARGET: Final = 2_048  # bytes of a path with its query
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


def hosts_of(listens_on: str) -> frozenset[str]:
    """The names in a Host header that mean us, listening there. Ports are not looked at: a tunnel has its own."""
    return _LOOPBACK | {listens_on.lower()} | (frozenset() if is_loopback(listens_on.lower()) else _own_names())


def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset((name, f"{name}.local", socket.getfqdn().lower()))


class Guard:
    """The outermost part of the application: refuses what the rules forbid, and puts the headers on every answer.

    Args:
        app: What is guarded.
        hosts: Names in a Host header that mean us.
        any_number: Whether every IP address means us, too. A number cannot be pointed elsewhere.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], any_number: bool) -> None:
        self._app = app
        self._hosts = hosts
        self._any_number = any_number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        why = self._why_not(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                if b"cache-control" not in names:
                    extra.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        if why:
            await _refuse(send_guarded, why)
            return
        await self._app(scope, receive, send_guarded)

    def _why_not(self, scope: Scope) -> str:
        headers = list(scope["headers"])
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > MOST_TARGET:
            return "the address is too long"
        if len(hosts) != 1 or not self._means_us(hosts[0]):
            return "this Host is not the dashboard's: open it by the address that it printed, or start it with --host"
        if len(origins) > 1 or (origins and not is_same(origins[0], hosts[0])):
            return "a page of another origin may not ask this dashboard"
        if not _is_asked_by_us(scope["path"], dict(headers)):
            return "a page of another site may not load this: open the dashboard by itself"
        return ""

    def _means_us(self, host: str) -> bool:
        name = name_of(host)
        return name is not None and (name in self._hosts or (self._any_number and _address(name) is not None))


def _is_asked_by_us(path: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says that our page asks, or nobody's; a link of somebody's may lead to the page itself.

    An image or a frame of another page sends no Origin. It could read nothing, but take up all streams.
    """
    site = headers.get(b"sec-fetch-site", b"none")
    if site in (b"none", b"same-origin"):
        return True
    return (
        path == "/" and headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    )


def is_same(origin: str, host: str) -> bool:
    """Whether an Origin is that of the page that is served under a Host."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() and not parts.path


def name_of(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None: it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname


def is_token(given: str, token: str) -> bool:
    """Whether an Authorization header carries the token; takes as long for every wrong one of a length."""
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


async def _refuse(send: Send, why: str) -> None:
    body = b'{"error":"' + why.encode() + b'"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
