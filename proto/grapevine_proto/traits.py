"""The names of traits: what agents announce that they have, and applications ask for."""

from __future__ import annotations

from typing import Final

GOSSIP_LEARNING: Final = "gossip-learning"  # it trains, by itself or through its owner's trainer
SENSORS: Final = "sensors"  # it records live topics
CONTAINER_ENGINE: Final = "container-engine"  # its owner allows containers
ACCELERATOR: Final = "accelerator"  # it has a GPU or the like
GATEWAY: Final = "gateway"
BROKER_HOST: Final = "broker-host"  # it would start a broker for others

FOUND: Final = {
    ACCELERATOR: "it has a GPU or the like",
    BROKER_HOST: "it would start a broker for others",
    CONTAINER_ENGINE: "its owner allows containers",
    GATEWAY: "it is a gateway between brokers",
    GOSSIP_LEARNING: "it trains",
    SENSORS: "it records live topics",
}
