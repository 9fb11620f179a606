"""The way to the brokers: URLs, a transport over MQTT, and an outbox for what must survive a lost connection."""

from grapevine_agent.net.events import Arrived, Connected, Disconnected, Event, Listening, Trying, Will
from grapevine_agent.net.outbox import Outbox, Waiting
from grapevine_agent.net.tls import TlsOptions
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl

__all__ = [
    "Arrived",
    "BrokerUrl",
    "Connected",
    "Disconnected",
    "Event",
    "Listening",
    "Outbox",
    "TlsOptions",
    "Transport",
    "Trying",
    "Waiting",
    "Will",
]
