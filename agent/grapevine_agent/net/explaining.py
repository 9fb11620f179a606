"""Why a connection failed, in words that help an owner."""

from __future__ import annotations

import socket
import ssl

from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.reasoncodes import ReasonCode

from grapevine_agent.net.urls import BrokerUrl

_RETAIN_NOT_SUPPORTED = 0x9A  # MQTT 5, table 3-1


def is_about_the_login(code: ReasonCode) -> bool:
    """Whether a broker refused us for who we are: the user name, the password, or what they may do."""
    text = str(code).lower()
    return "authorized" in text or "password" in text


def refusal(code: ReasonCode, username: str = "") -> str:
    """Say why a broker refused us, who came as `username`, at a CONNECT."""
    text = f"it refuses us: {str(code).lower()}"
    if is_about_the_login(code):
        who = f"user {username!r}" if username else "an anonymous client: no user name is configured"
        text += f" ({who}): check the user name and password of this broker in the configuration"
    return text


def is_about_retaining(code: ReasonCode) -> bool:
    """Whether the broker retains nothing, and will not have a will that is to be retained."""
    return code.value == _RETAIN_NOT_SUPPORTED


def is_for_good(error: BaseException | None) -> bool:
    """Whether the next attempt fails in the same way, until somebody mends something."""
    return isinstance(error, ssl.SSLCertVerificationError)


def explain(error: BaseException, url: BrokerUrl) -> str:
    """Say why a connection failed, in words that help an owner."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): set mqtt.ca_file to who signed it"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error})"
        case WebsocketConnectionError():
            return f"no WebSocket for MQTT at {url.path} ({error})"
        case socket.gaierror():
            return f"the name {url.host} cannot be resolved: check it, and this device's network"
        case ConnectionRefusedError():
            return f"nothing listens on {url.host}:{url.port}: is the broker running?"
        case TimeoutError():
            return f"no answer from {url.host}:{url.port}: is it on, and reachable from here?"
        case OSError():
            return f"{error.strerror or error}"
        case _:
            return f"the connection broke ({type(error).__name__}: {error})"
