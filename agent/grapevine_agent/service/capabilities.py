"""What this device has that applications may ask for: traits, as the Open Application Model calls them.

Found in the owner's configuration, the firmware profile and the device files of this machine. Nothing is loaded or
tried for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.firmware import FirmwareProfile
from grapevine_proto.traits import ACCELERATOR, BROKER_HOST, CONTAINER_ENGINE, GATEWAY, GOSSIP_LEARNING, SENSORS

# GPUs of NVIDIA and AMD, Coral, Hailo: what there is of accelerators shows as one of these.
ACCELERATOR_FILES: Final = ("/dev/nvidia0", "/dev/kfd", "/dev/apex_0", "/dev/hailo0")


def traits_of(config: Config, profile: FirmwareProfile, *, cannot_train: str) -> tuple[str, ...]:
    """The traits that this device announces, sorted. `cannot_train`: why it trains nothing; empty if it does."""
    found = {
        GOSSIP_LEARNING: not cannot_train,
        SENSORS: any(source.recording for source in config.data),
        CONTAINER_ENGINE: config.engine is not None,
        ACCELERATOR: any(map(_is_there, ACCELERATOR_FILES)),
        GATEWAY: config.mqtt.gateway,
        BROKER_HOST: config.mqtt.host_broker and profile.can_host_broker,
    }
    return tuple(sorted(trait for trait, has in found.items() if has))


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False
