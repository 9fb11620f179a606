"""From the owner's configuration to a service that is ready to run."""

from __future__ import annotations

import importlib.util
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from grapevine_agent.config import Config, check_files
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy, Role
from grapevine_agent.firmware import FirmwareProfile, load_profile, with_limits
from grapevine_agent.identity import Identity, load_identity
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.net.events import Will
from grapevine_agent.net.tls import TlsOptions
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import AgentService
from grapevine_agent.store import Store
from grapevine_agent.trainers import Trainers
from grapevine_agent.training.sources import DataSource, match_source
from grapevine_agent.training.trainer import TrainerLimits
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, TaskManifest
from grapevine_tasks.checks import ProgramLimits, check_manifest

logger = logging.getLogger(__name__)

MIB = 1024 * 1024


@contextmanager
def assembled(
    config: Config, *, role: Role = "member", guest: bool = False, server_heartbeat_s: float = 1.0
) -> Iterator[AgentService]:
    """A service for this configuration, with its state open.

    `guest` is for a command that connects by itself because no service runs: it has the peer's
    identity but a client id of its own, so that it never throws a service out, and it trains nothing.
    """
    check_files(config)
    profile = with_limits(load_profile(config.agent.profile), config.limits)
    with Store.open(config.agent.state_dir) as store:
        identity = load_identity(config.agent.state_dir)
        sources = tuple(DataSource(kind=s.kind, path=s.path, name=s.name) for s in config.data)
        trains = role == "member" and not guest and not _why_no_training(profile)
        service = AgentService(
            settings=replace(
                _settings(config, profile, identity, sources),
                role="observer" if guest else role,
                server_heartbeat_s=server_heartbeat_s,
            ),
            identity=identity,
            store=store,
            transport=_transport(config, identity, guest=guest),
            root=config.mqtt.root,
            trainers=Trainers(sources, _trainer_limits(profile)) if trains else None,
            max_bytes=config.mqtt.max_packet_bytes,
        )
        yield service


def _settings(
    config: Config, profile: FirmwareProfile, identity: Identity, sources: tuple[DataSource, ...]
) -> CoreSettings:
    program_limits = ProgramLimits(num_parameters=profile.max_parameters, memory_bytes=profile.memory_mb * MIB)

    def match_data(contract: DataContract) -> str:
        match = match_source(contract, sources)
        return "" if match else str(match)

    def check_task(manifest: TaskManifest) -> str:
        try:
            check_manifest(manifest, check_merging=check_merge_plan, limits=program_limits)
        except TaskError as error:
            return str(error)
        return ""

    return CoreSettings(
        peer=identity.peer_id,
        name=config.agent.name,
        consent=config.agent.consent,
        give_models=config.agent.give_models,
        review=ReviewPolicy(
            approvals=config.review.approvals,
            trusted=frozenset(config.review.trusted),
            publishers=frozenset(config.trust.publishers),
        ),
        limits=DeviceLimits(
            profile=profile.name,
            cores=profile.cores,
            memory_mb=profile.memory_mb,
            max_parameters=profile.max_parameters,
            max_batch=profile.max_batch,
            cannot_train=_why_no_training(profile),
            watts_idle=profile.power.idle_w,
            watts_training=profile.power.training_w,
        ),
        trusted_servers=frozenset(config.trust.servers),
        brokers=tuple(str(BrokerUrl.parse(url).without_credentials()) for url in config.mqtt.brokers),
        data_kinds=tuple(sorted({source.kind for source in sources})),
        heartbeat_s=config.mqtt.heartbeat_s,
        match_data=match_data,
        check_task=check_task,
    )


def _why_no_training(profile: FirmwareProfile) -> str:
    """Why this device trains nothing, in words for its owner; empty if it can."""
    if not profile.can_train:
        return f"profile {profile.name!r} does not train"
    if importlib.util.find_spec("torch") is None:
        return "training needs PyTorch, which is not installed here: pip install 'grapevine[train]'"
    return ""


def _trainer_limits(profile: FirmwareProfile) -> TrainerLimits:
    return TrainerLimits(memory_mb=profile.memory_mb, num_threads=profile.threads)


def _transport(config: Config, identity: Identity, *, guest: bool) -> Callable[[Callable[[], Will | None]], Transport]:
    mqtt = config.mqtt
    urls = [BrokerUrl.parse(url) for url in mqtt.brokers]
    password = mqtt.read_password() or ""
    has_tls_files = any((mqtt.ca_file, mqtt.cert_file, mqtt.key_file))
    client_id = f"{identity.peer_id}-cli-{secrets.token_hex(3)}" if guest else identity.peer_id

    def make(will: Callable[[], Will | None]) -> Transport:
        return Transport(
            urls,
            client_id=client_id,
            keepalive_s=mqtt.keepalive_s,
            version=mqtt.version,
            tls=(
                TlsOptions(ca_file=mqtt.ca_file, certificate_file=mqtt.cert_file, key_file=mqtt.key_file)
                if has_tls_files
                else None
            ),
            will=will,
            max_packet_bytes=mqtt.max_packet_bytes,
            username=mqtt.username or (identity.peer_id if password or mqtt.cert_file else ""),
            password=password,
        )

    return make


def state_socket(config: Config) -> Path:
    """Where the running service of this configuration listens for commands."""
    return config.agent.state_dir / "agent.sock"
