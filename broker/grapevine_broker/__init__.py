"""Brokers that we can start: embedded amqtt, rumqttd in a child process, and a supervised Mosquitto.

What is named here is loaded when it is asked for: the child process of rumqttd is of this package, too, and with all
of it would take half as much memory again.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grapevine_broker.running import RunningBroker
    from grapevine_broker.start import ENGINES, check_engine, run_broker, start_broker

__all__ = ["ENGINES", "RunningBroker", "check_engine", "run_broker", "start_broker"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = "running" if name == "RunningBroker" else "start"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
