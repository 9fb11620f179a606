"""Why a connection failed, in words that help an owner."""

from __future__ import annotations

import socket
import ssl

from paho.mqtt.reasoncodes import ReasonCode

from grapevine_agent.net.urls import BrokerUrl


def refusal(code: ReasonCode, url: BrokerUrl) -> str:
    """Say why a broker refused us at a CONNECT."""
    text = f"it refuses us: {str(code).lower()}"
    if "authorized" in text or "password" in text:
        who = f"user {url.username!r}" if url.username else "an anonymous client"
        text += f" ({who}): check the user name and password of this broker in the configuration"
    return text


def explain(error: BaseException, url: BrokerUrl) -> str:
    """Say why a connection failed, in words that help an owner."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}): set mqtt.ca_file to who signed it"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error}): is {url.port} its TLS port?"
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
