"""What answers on a port that does not let us in: asked of it, so that an owner is told what to change in a URL.

    TCP?   ─no─▶ nothing can be told
    TLS?   a handshake, whatever the certificate
    HTTP?  a WebSocket is asked for, through TLS if that is there:
               101 ─▶ ws:// or wss://      another answer ─▶ a web server      none ─▶ mqtt:// or mqtts://

Nothing of ours is sent, and nothing that is said is believed: a connection ends as soon as it has told.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
from dataclasses import replace
from typing import Final

from grapevine_agent.net.urls import WEBSOCKET_PATH, BrokerUrl

ANSWER_S: Final = 2.0
_MOST_BYTES: Final = 64


async def what_answers(url: BrokerUrl, *, within_s: float = ANSWER_S) -> str:
    """What is wrong with the URL, and what to write; empty where that does not show. Takes some `within_s` at most."""
    if not await _connects(url, within_s, context=None):
        return ""
    has_tls = await _connects(url, within_s, context=_any_certificate())
    answer = await _answer_to_upgrade(url, within_s, context=_any_certificate() if has_tls else None)
    scheme = "mqtts" if has_tls else "mqtt"
    if answer.startswith(b"HTTP/1.1 101"):
        scheme = "wss" if has_tls else "ws"
    elif answer.startswith(b"HTTP/"):
        return (
            f"a web server answers on port {url.port}: name the broker's port (1883 is usual, 8883 with TLS), "
            f"or the path of its WebSockets, as in {'wss' if has_tls else 'ws'}://hub.local{WEBSOCKET_PATH}"
        )
    if scheme == url.scheme:
        return ""
    if url.has_tls != has_tls:
        speaks = "speaks TLS" if has_tls else "does not speak TLS (8883 is its usual port)"
    else:
        speaks = "speaks WebSockets" if scheme in ("ws", "wss") else "does not speak WebSockets"
    path = (url.path or WEBSOCKET_PATH) if scheme in ("ws", "wss") else ""
    return f"port {url.port} {speaks}: write {replace(url, scheme=scheme, path=path)}"


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _connects(url: BrokerUrl, within_s: float, *, context: ssl.SSLContext | None) -> bool:
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    except (OSError, TimeoutError):
        return False
    await _end(writer)
    return True


async def _answer_to_upgrade(url: BrokerUrl, within_s: float, *, context: ssl.SSLContext | None) -> bytes:
    """The first bytes of what comes back when a WebSocket for MQTT is asked for (RFC 6455, section 4.1)."""
    lines = (
        f"GET {url.path or WEBSOCKET_PATH} HTTP/1.1",
        f"Host: {url.host}:{url.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
        "",
        "",
    )
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
            try:
                writer.write("\r\n".join(lines).encode())
                return await reader.read(_MOST_BYTES)
            finally:
                await _end(writer)
    except (OSError, TimeoutError):
        return b""


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
