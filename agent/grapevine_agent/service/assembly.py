"""From the owner's configuration to a service that is ready to run."""

from __future__ import annotations

import importlib.util
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from grapevine_agent.config.agent_toml import Config, check_files
from grapevine_agent.config.firmware import FirmwareProfile, device_limits, load_profile, with_limits
from grapevine_agent.config.review import policy_of
from grapevine_agent.config.scope import core_scope
from grapevine_agent.config.trainers import choose_trainer
from grapevine_agent.core.settings import CoreSettings, Needs, Role, SleepPlan
from grapevine_agent.data import DataSource, match_source
from grapevine_agent.identity import Identity, confirm, make_if_new, read_identity
from grapevine_agent.net import discovery
from grapevine_agent.net.events import Will
from grapevine_agent.net.tls import TlsOptions
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import MakeTransport
from grapevine_agent.service.capabilities import traits_of
from grapevine_agent.service.containers import Engine
from grapevine_agent.service.discovering import Search
from grapevine_agent.service.fitting import BareTrainer, DeviceFit
from grapevine_agent.service.inspector import Inspector
from grapevine_agent.service.recording import Recording
from grapevine_agent.service.saving import readable
from grapevine_agent.service.shell import AgentService
from grapevine_agent.service.trainers import Trainers
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.store import Store
from grapevine_agent.training.trainer import TrainerLimits
from grapevine_broker import embedded
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, StoreError
from grapevine_proto.manifest import ManifestHead

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
FEWEST_HEARTBEATS_AWAKE = 4.0  # to be heard, to hear others, and to send something


@contextmanager
def assembled(
    config: Config, *, role: Role = "member", guest: bool = False, server_heartbeat_s: float = 1.0
) -> Iterator[AgentService]:
    """A service for this configuration, with its state open.

    `guest` is for a command that connects by itself because no service runs: it has the peer's
    identity but a client id of its own, so that it never throws a service out, and it trains nothing. Only a
    service makes an identity, and only in a folder that is new. Raises `IdentityError` where the key is not the one
    that the folder belongs to.
    """
    check_files(config)
    mqtt = config.mqtt
    if mqtt.discover and not guest:
        discovery.check_installed()
    profile = with_limits(load_profile(config.agent.profile), config.limits)
    if not guest:
        make_if_new(config.agent.state_dir)
    identity = read_identity(config.agent.state_dir)
    state_bytes = profile.state_mb * MIB
    with Store.open(config.agent.state_dir, cap_bytes=state_bytes) as store:
        _confirm(identity, store)
        unsaved = Unsaved()
        sources, bare = configured_sources(config, profile), BareTrainer()
        inspector = Inspector(memory_mb=profile.memory_mb)
        recording = _recording(config, sources, unsaved) if role == "member" and not guest else None
        trains = role == "member" and not guest and not _why_no_training(profile, config)
        service = AgentService(
            settings=replace(
                _settings(config, profile, identity, sources, bare, inspector, recording),
                role="observer" if guest else role,
                sleep=None if guest else _sleep_plan(config, role, recording),
                server_heartbeat_s=server_heartbeat_s,
            ),
            identity=identity,
            store=store,
            transports=_transports(config, identity, guest=guest),
            search=None if guest else search_of(config, profile, identity.peer_id),
            attach=(lambda url: partial(_transport, config, identity, [url], False)) if mqtt.connect == "all" else None,
            root=config.mqtt.root,
            trainers=_trainers(config, profile, sources, bare, inspector) if trains else None,
            max_bytes=config.mqtt.max_packet_bytes,
            recording=recording,
            config=config,
            unsaved=unsaved,
            inspector=inspector,
            chunk_window=profile.chunk_window,
            engine=Engine(config.engine, identity.peer_id) if config.engine is not None and not guest else None,
        )
        try:
            yield service
        finally:
            inspector.close()


def configured_sources(config: Config, profile: FirmwareProfile) -> tuple[DataSource, ...]:
    """The owner's sources; what has no limit of its own may take a quarter of the memory that training may take."""
    default = profile.memory_mb * MIB // 4
    return tuple(replace(source, max_bytes=source.max_bytes or default) for source in config.data)


def _confirm(identity: Identity, store: Store) -> None:
    """The key, the file beside it and the database are to name one peer; what does not is put right, or refused."""
    named = readable(store.remembered_peer, str)
    confirm(identity, named)
    if named != identity.peer_id:
        with suppress(StoreError):  # the next start tries again
            store.remember_peer(identity.peer_id)


def _recording(config: Config, sources: tuple[DataSource, ...], unsaved: Unsaved) -> Recording | None:
    if not any(source.recording for source in sources):
        return None
    return Recording(config.agent.state_dir, sources, unsaved)


def _settings(
    config: Config,
    profile: FirmwareProfile,
    identity: Identity,
    sources: tuple[DataSource, ...],
    bare: BareTrainer,
    inspector: Inspector,
    recording: Recording | None,
) -> CoreSettings:
    fitting = DeviceFit(profile, config.limits.step_timeout_s, bare)

    def is_attached(task: str, manifest: ManifestHead) -> bool:
        return choose_trainer(config.trainers, task=task, name=manifest.name, kind=manifest.data.kind) is not None

    def match_data(task: str, manifest: ManifestHead) -> str:
        if is_attached(task, manifest):
            return ""  # it is the trainer's to say, when it is asked
        now_s = clock.now().wall_ms / 1000
        room = fitting.room(task)
        match = match_source(manifest.data, sources, now_s=now_s, why_no_room=room, look=inspector.look)
        if match.memory is not None:
            fitting.matched(task, match.memory)
        if match:
            return _why_no_processes()
        silent = recording.why_silent(manifest.data.kind) if recording is not None else ""
        return "; ".join(why for why in (str(match), silent) if why)

    def needs(task: str, manifest: ManifestHead) -> Needs:
        return fitting.needs(task, manifest, attached=is_attached(task, manifest))

    return CoreSettings(
        peer=identity.peer_id,
        name=config.agent.name,
        consent=config.agent.consent,
        consent_rules=config.consent,
        give_models=config.agent.give_models,
        review=policy_of(config.review, config.trust, identity.peer_id),
        renew_reviews=config.review.renew,
        limits=device_limits(profile, cannot_train=_why_no_training(profile, config)),
        trusted_servers=frozenset(config.trust.servers),
        brokers=tuple(str(BrokerUrl.parse(url).without_credentials()) for url in config.mqtt.brokers),
        data_kinds=tuple(sorted({*(s.kind for s in sources), *(t.kind for t in config.trainers if t.kind)})),
        site=config.agent.site,
        location=config.agent.location,
        labels=config.agent.labels,
        traits=traits_of(config, profile, cannot_train=_why_no_training(profile, config)),
        engine=config.engine.rules if config.engine is not None else None,
        scope=core_scope(config.mqtt.scope, config.agent.site),
        is_gateway=config.mqtt.gateway,
        heartbeat_s=config.mqtt.heartbeat_s,
        match_data=match_data,
        shortest_round_s=config.limits.round_interval_s,
        upload_bytes_per_s=config.limits.upload_mb_per_s * MIB,
        encoding=profile.encoding,
        check_task=fitting.reason,
        needs=needs,
        save_every_s=config.limits.save_every_s,
        save_bytes_per_day=profile.save_mb_per_day * MIB,
    )


def _sleep_plan(config: Config, role: Role, recording: Recording | None) -> SleepPlan | None:
    """When this device is connected. Raises `ConfigError` for a server, which members count on."""
    mqtt = config.mqtt
    if not mqtt.online_s:
        return None
    if role == "server":
        raise ConfigError(f"mqtt.online_s = {mqtt.online_s:g}: a server does not sleep; leave it out, and every_s")
    if mqtt.online_s < FEWEST_HEARTBEATS_AWAKE * mqtt.heartbeat_s:
        logger.warning(
            "mqtt.online_s = %g: in so short a time few peers are heard; write at least %g, which is %g heartbeats",
            mqtt.online_s,
            FEWEST_HEARTBEATS_AWAKE * mqtt.heartbeat_s,
            FEWEST_HEARTBEATS_AWAKE,
        )
    if recording is not None:
        logger.warning(
            "sources of live topics record while this device is connected: %g s of every %g s",
            mqtt.online_s,
            mqtt.every_s,
        )
    return SleepPlan(online_s=mqtt.online_s, every_s=mqtt.every_s)


def _why_no_training(profile: FirmwareProfile, config: Config) -> str:
    """Why this device trains nothing at all, in words for its owner; empty if it can train something."""
    if not profile.can_train:
        return f"profile {profile.name!r} does not train"
    return "" if config.trainers else _why_no_processes()


def _why_no_processes() -> str:
    """Why this device has no trainer processes of our own; empty if it has."""
    if importlib.util.find_spec("torch") is None:
        return f"training needs PyTorch, which is not installed here: {distribution.to_add_extra('train')}"
    return ""


def _trainers(
    config: Config,
    profile: FirmwareProfile,
    sources: tuple[DataSource, ...],
    bare: BareTrainer,
    inspector: Inspector,
) -> Trainers:
    return Trainers(sources, _trainer_limits(profile, config), config.trainers, bare, look=inspector.fresh)


def _trainer_limits(profile: FirmwareProfile, config: Config) -> TrainerLimits:
    return TrainerLimits(
        memory_mb=profile.memory_mb,
        num_threads=profile.threads,
        cpu_s=config.limits.cpu_s,
        sandbox=config.limits.sandbox,
        pace=profile.pace,
        step_timeout_s=config.limits.step_timeout_s,
    )


def _transports(config: Config, identity: Identity, *, guest: bool) -> list[MakeTransport]:
    """One for all brokers, of which it keeps the first that takes us in; or one for each."""
    all_urls = [BrokerUrl.parse(url) for url in config.mqtt.brokers]
    groups = [[url] for url in all_urls] if config.mqtt.connect == "all" else [all_urls]
    return [partial(_transport, config, identity, group, guest) for group in groups]


def _transport(
    config: Config, identity: Identity, urls: Sequence[BrokerUrl], guest: bool, will: Callable[[], Will | None]
) -> Transport:
    mqtt = config.mqtt
    password = "" if all(url.is_found for url in urls) else mqtt.read_password() or ""
    is_any_encrypted = any(BrokerUrl.parse(url).has_tls for url in mqtt.brokers)  # files that no URL uses are refused
    has_tls_files = any((mqtt.ca_file, mqtt.cert_file, mqtt.key_file))
    return Transport(
        urls,
        client_id=f"{identity.peer_id}-cli-{secrets.token_hex(3)}" if guest else identity.peer_id,
        keepalive_s=mqtt.keepalive_s,
        version=mqtt.version,
        tls=(
            TlsOptions(ca_file=mqtt.ca_file, certificate_file=mqtt.cert_file, key_file=mqtt.key_file)
            if has_tls_files and (any(url.has_tls for url in urls) or not is_any_encrypted)
            else None
        ),
        will=will,
        max_packet_bytes=mqtt.max_packet_bytes,
        username=mqtt.username or (identity.peer_id if password or mqtt.cert_file else ""),
        password=password,
        found_below=f"{mqtt.root}/",
    )


def search_of(config: Config, profile: FirmwareProfile, peer: str) -> Search | None:
    """Where brokers are looked for, if the owner asks for it. Raises `ConfigError` for a device that is no host."""
    mqtt = config.mqtt
    if not mqtt.discover:
        return None
    if mqtt.host_broker:
        if not profile.can_host_broker:
            raise ConfigError(
                f"mqtt.host_broker = true: profile {profile.name!r} is of a device that is too small to host a broker "
                "for others; leave it out here, and set it on a larger device"
            )
        embedded.check_installed()
    return Search(
        root=mqtt.root,
        peer=peer,
        configured=tuple(BrokerUrl.parse(url) for url in mqtt.brokers),
        takes_any=mqtt.discover == "any",
        address=mqtt.discover_on,
        hosts=mqtt.host_broker,
        host_after_s=mqtt.host_after_s,
    )


def state_socket(config: Config) -> Path:
    """Where the running service of this configuration listens for commands."""
    return config.agent.state_dir / "agent.sock"
