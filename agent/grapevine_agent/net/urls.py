"""Where a broker is: `mqtt://user:password@host:1883`, parsed once, and never printed with its password."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from grapevine_proto.errors import ConfigError

Version: TypeAlias = Literal["auto", "5", "3.1.1"]

_HOST = re.compile(r"[\w.-]+(:\d+)?")  # what is taken for a URL without its scheme
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_VERSIONS: tuple[Version, ...] = ("auto", "5", "3.1.1")
WEBSOCKET_PATH = "/mqtt"


@dataclass(frozen=True, kw_only=True)
class BrokerUrl:
    """A broker's address. `str()` and `repr()` leave the password out."""

    scheme: str = "mqtt"  # "mqtt" | "mqtts" | "ws" | "wss"
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    path: str = ""  # of a WebSocket
    version: Version = "auto"  # the owner's word on what the broker speaks
    is_found: bool = False  # nobody configured it: it was announced (`discovery.py`), and is sent no secret

    @classmethod
    def parse(cls, text: str) -> BrokerUrl:
        """Read a URL as an owner writes it.

        `mqtts` and `wss` mean TLS; `?version=3.1.1` or `?version=5` says what the broker speaks.
        User names and passwords may be percent-encoded.

        Raises:
            ConfigError: It is no such URL. The message masks the password.
        """
        shown = _masked(text)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            msg = (
                f"cannot read the broker URL {shown!r}: write for example mqtt://hub.local:1883, / in a password as %2F"
            )
            raise ConfigError(msg) from None  # urllib quotes pieces of the password
        if parts.scheme not in _DEFAULT_PORTS or "://" not in text:
            host = text if _HOST.fullmatch(text) else "hub.local"
            msg = (
                f"the broker URL {shown!r} must begin with mqtt://, mqtts://, ws:// or wss://: "
                f"write for example mqtt://{host}"
            )
            raise ConfigError(msg)
        if not parts.hostname or port == 0:
            msg = f"the broker URL {shown!r} names no host or port 0: write for example {parts.scheme}://hub.local"
            raise ConfigError(msg)
        is_websocket = parts.scheme in ("ws", "wss")
        if parts.fragment or (parts.path not in ("", "/") and not is_websocket):
            msg = (
                f"the broker URL {shown!r} has a path or a #, which {parts.scheme}:// does not know: "
                f"write for example {parts.scheme}://hub.local, with %2F and %23 for / and # in a password"
            )
            raise ConfigError(msg)
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            path=(parts.path or WEBSOCKET_PATH) if is_websocket else "",
            version=_version(parts.query, shown),
        )

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT goes through a WebSocket."""
        return self.scheme in ("ws", "wss")

    @property
    def address(self) -> str:
        """The URL by which one broker is told from another, whoever logs in and however."""
        return str(replace(self, username="", password="", version="auto"))

    def without_credentials(self) -> BrokerUrl:
        """Return the same address for others' eyes, as it goes into announcements."""
        return replace(self, username="", password="")

    def __str__(self) -> str:
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        version = "" if self.version == "auto" else f"?version={self.version}"
        return f"{self.scheme}://{user}{host}:{self.port}{self.path}{version}"


def _version(query: str, shown: str) -> Version:
    version: Version = "auto"
    for key, value in parse_qsl(query, keep_blank_values=True):
        matches = [known for known in _VERSIONS if known == value]
        if key != "version" or not matches:
            msg = f"the broker URL {shown!r} ends in ?{query}: only ?version=5, =3.1.1 and =auto are known"
            raise ConfigError(msg)
        version = matches[0]
    return version


def _masked(text: str) -> str:
    """Hide what may be a password in a URL that could not be parsed."""
    account, at, place = text.rpartition("@")
    if not at:
        return text
    scheme, slashes, login = account.rpartition("://")
    user, colon, _ = login.partition(":")
    return f"{scheme}{slashes}{user}{colon}{'…' if colon else ''}@{place}"


def is_loopback(host: str) -> bool:
    """Whether a host, as it is written in a URL, is this machine by its own name for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
