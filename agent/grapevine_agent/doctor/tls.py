"""TLS of one broker: whom its certificate is of, who vouches for it, and for how long; and ours, if there is one."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from grapevine_agent.config.agent_toml import MqttConfig
from grapevine_agent.doctor.brokers import split
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.net.explaining import explain
from grapevine_agent.net.reaching import connect_to
from grapevine_agent.net.tls import TlsOptions, tls_context
from grapevine_agent.net.urls import BrokerUrl, is_loopback
from grapevine_proto.errors import ConfigError

CONNECT_S: Final = 6.0
SOON_DAYS: Final = 14.0
_DAY_S: Final = 86_400.0


def tls(url: BrokerUrl, mqtt: MqttConfig, *, has_password: bool) -> list[Finding]:
    """A handshake of its own, with the owner's files, before any login. Blocks, for `CONNECT_S` twice at most."""
    if not url.has_tls:
        return [_plain(url, has_password=has_password)]
    options = TlsOptions(ca_file=mqtt.ca_file, certificate_file=mqtt.cert_file, key_file=mqtt.key_file)
    try:
        with (
            connect_to(url.host, url.port, CONNECT_S) as plain,
            tls_context(options).wrap_socket(plain, server_hostname=url.host) as encrypted,
        ):
            certificate, version = encrypted.getpeercert() or {}, encrypted.version() or "TLS"
    except ConfigError as error:
        return [Finding(check="tls", about=str(url), level="fail", says=str(error))]
    except (ssl.SSLError, ssl.CertificateError) as error:
        says, remedy = split(explain(error, url))
        if "not yet valid" in says:
            remedy = "see the clock below: the certificate is of a time that this clock has not reached"
        return [Finding(check="tls", about=str(url), level="fail", says=says, remedy=remedy)]
    except OSError as error:
        says = "not known: there was no connection to look at"
        return [Finding(check="tls", about=str(url), level="skip", says=says, facts={"why": explain(error, url)})]
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if "notAfter" in certificate else None
    found = [_vouched(url, version, mqtt.ca_file, ends_s)]
    return found + (_ours(url, mqtt.cert_file) if mqtt.cert_file is not None else [])


def _plain(url: BrokerUrl, *, has_password: bool) -> Finding:
    facts = {"encrypted": False}
    if is_loopback(url.host):
        says = "not encrypted, and on this machine it need not be"
        return Finding(check="tls", about=str(url), level="ok", says=says, facts=facts)
    if has_password:
        says = "not encrypted: whoever listens on the network has this device's password"
        remedy = f"let the broker speak TLS, and write {'wss' if url.is_websocket else 'mqtts'}:// for it"
        return Finding(check="tls", about=str(url), level="warn", says=says, remedy=remedy, facts=facts)
    says = "not encrypted: messages are signed, and can be read by whoever listens on the network"
    return Finding(check="tls", about=str(url), level="ok", says=says, facts=facts)


def _vouched(url: BrokerUrl, version: str, ca_file: Path | None, ends_s: float | None) -> Finding:
    by = str(ca_file) if ca_file is not None else "the system's authorities"
    days = None if ends_s is None else (ends_s - time.time()) / _DAY_S
    facts: dict[str, Any] = {
        "encrypted": True,
        "version": version,
        "days_left": None if days is None else round(days, 1),
    }
    says = f"{version}, trusted by {by}"
    says += f", for {days:.0f} days more" if days is not None else ""
    if days is not None and days < SOON_DAYS:
        remedy = "renew the broker's certificate: when it has run out, no device connects any more"
        return Finding(check="tls", about=str(url), level="warn", says=says, remedy=remedy, facts=facts)
    return Finding(check="tls", about=str(url), level="ok", says=says, facts=facts)


def _ours(url: BrokerUrl, path: Path) -> list[Finding]:
    """Our own certificate runs out as well."""
    try:
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return []  # the handshake has used it
    days = (ends.timestamp() - time.time()) / _DAY_S
    if days >= SOON_DAYS:
        return []
    says = f"our certificate {path} " + (f"ends in {days:.0f} days" if days > 0 else f"ended {-days:.0f} days ago")
    remedy = "have it renewed by whoever issued it; the agent takes the new one at its next connection"
    level: Any = "warn" if days > 0 else "fail"
    return [Finding(check="tls", about=str(url), level=level, says=says, remedy=remedy, facts={"own_days_left": days})]
