"""The names of traits: what agents announce that they have, and applications ask for."""

from __future__ import annotations

from typing import Final

GOSSIP_LEARNING: Final = "gossip-learning"  # it trains, by itself or through its owner's trainer
SENSORS: Final = "sensors"  # it records live topics
CONTAINER_ENGINE: Final = "container-engine"  # its owner allows containers
ACCELERATOR: Final = "accelerator"  # it has a GPU or the like
GATEWAY: Final = "gateway"  # between brokers
BROKER_HOST: Final = "broker-host"  # it would start a broker for others

FOUND: Final = (ACCELERATOR, BROKER_HOST, CONTAINER_ENGINE, GATEWAY, GOSSIP_LEARNING, SENSORS)
