"""From the owner's configuration to a service that is ready to run."""

from __future__ import annotations

import importlib.util
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from grapevine_agent.config.agent_toml import KEEPALIVE_S, Config, check_files
from grapevine_agent.config.firmware import FirmwareProfile, device_limits, device_profile, with_profile
from grapevine_agent.config.governor import governor_limits
from grapevine_agent.config.review import policy_of
from grapevine_agent.config.scope import core_scope
from grapevine_agent.config.trainers import choose_trainer
from grapevine_agent.core.settings import CoreSettings, GovernorLimits, Needs, Role, SleepPlan
from grapevine_agent.data.matching import match_source
from grapevine_agent.data.source import DataSource
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
from grapevine_agent.service.meter import Meter, find_sensors
from grapevine_agent.service.pulse import Stops
from grapevine_agent.service.recording import Recording
from grapevine_agent.service.reloading import Made
from grapevine_agent.service.saving import readable
from grapevine_agent.service.shell import AgentService
from grapevine_agent.service.trainers import Trainers
from grapevine_agent.service.unsaved import Unsaved
from grapevine_agent.store.store import Store
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
    config: Config,
    *,
    role: Role = "member",
    guest: bool = False,
    server_heartbeat_s: float = 1.0,
    stops: Stops | None = None,
) -> Iterator[AgentService]:
    """A service for this configuration, with its state open.

    `guest` is for a command that connects by itself because no service runs: it has the peer's
    identity but a client id of its own, so that it never throws a service out, and it trains nothing. Only a
    service makes an identity, and only in a folder that is new. Raises `IdentityError` where the key is not the one
    that the folder belongs to.
    """
    check_files(config)
    if config.mqtt.discover and not guest:
        discovery.check_installed()
    profile = device_profile(config)
    config = with_profile(config, profile)
    if guest:
        role = "observer"
    else:
        make_if_new(config.agent.state_dir)
    identity = read_identity(config.agent.state_dir)
    state_bytes = profile.state_mb * MIB
    with Store.open(config.agent.state_dir, cap_bytes=state_bytes) as store:
        _confirm(identity, store)
        unsaved = Unsaved()
        sources, bare = configured_sources(config, profile), BareTrainer()
        inspector = Inspector(memory_mb=profile.memory_mb)
        meter = None if guest else _meter(config)
        recording = _recording(config, sources, unsaved) if role == "member" else None
        trains = role == "member" and not _why_no_training(profile, config)
        making = _Making(
            identity=identity,
            role=role,
            sleep=None if guest else _sleep_plan(config, role, recording),
            server_heartbeat_s=server_heartbeat_s,
            bare=bare,
            inspector=inspector,
            recording=recording,
            fitting=DeviceFit(profile, config.limits.step_timeout_s, bare),
        )
        service = AgentService(
            settings=making.settings(config, profile, sources),
            identity=identity,
            store=store,
            transports=_transports(config, identity, guest=guest),
            search=None if guest else search_of(config, profile, identity.peer_id),
            attach=(lambda url: partial(transport_for, config, identity.peer_id, [url], False))
            if config.mqtt.connect == "all"
            else None,
            root=config.mqtt.root,
            trainers=_trainers(config, profile, sources, bare, inspector, meter) if trains else None,
            max_bytes=config.mqtt.max_packet_bytes,
            recording=recording,
            config=config,
            unsaved=unsaved,
            inspector=inspector,
            chunk_window=profile.chunk_window,
            stops=stops,
            make=making.again,
            meter=meter,
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


@dataclass(kw_only=True)
class _Making:
    """How a service was made: makes settings of a configuration, at the start and again when it is another one."""

    identity: Identity
    role: Role
    sleep: SleepPlan | None
    server_heartbeat_s: float
    bare: BareTrainer
    inspector: Inspector
    recording: Recording | None
    fitting: DeviceFit

    def settings(self, config: Config, profile: FirmwareProfile, sources: tuple[DataSource, ...]) -> CoreSettings:
        """What the core is told."""
        if not self.fitting.is_for(profile, config.limits.step_timeout_s):  # else it knows what it has found out
            self.fitting = DeviceFit(profile, config.limits.step_timeout_s, self.bare)
        return _settings(self, config, profile, sources)

    def again(self, config: Config) -> Made:
        """What another configuration comes to. Raises `ConfigError`, for one that would not be started with."""
        profile = device_profile(config)
        sources = configured_sources(config, profile)
        settings = self.settings(config, profile, sources)
        return Made(settings=settings, sources=sources, limits=trainer_limits(profile, config))


def _settings(
    making: _Making, config: Config, profile: FirmwareProfile, sources: tuple[DataSource, ...]
) -> CoreSettings:
    fitting, inspector, recording, peer = making.fitting, making.inspector, making.recording, making.identity.peer_id

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
            return why_no_processes()
        silent = recording.why_silent(manifest.data.kind) if recording is not None else ""
        return "; ".join(why for why in (str(match), silent) if why)

    def needs(task: str, manifest: ManifestHead) -> Needs:
        return fitting.needs(task, manifest, attached=is_attached(task, manifest))

    return CoreSettings(
        peer=peer,
        role=making.role,
        name=config.agent.name,
        consent=config.agent.consent,
        consent_rules=config.consent,
        give_models=config.agent.give_models,
        judge_updates=config.agent.judge_updates,
        review=policy_of(config.review, config.trust, peer),
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
        server_heartbeat_s=making.server_heartbeat_s,
        server_group=config.agent.server_group,
        sleep=making.sleep,
        governor=GovernorLimits() if making.role == "observer" else governor_limits(config.governor, profile),
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
    return "" if config.trainers else why_no_processes()


def why_no_processes() -> str:
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
    meter: Meter | None,
) -> Trainers:
    limits = trainer_limits(profile, config)
    return Trainers(sources, limits, config.trainers, bare, look=inspector.fresh, meter=meter)


def _meter(config: Config) -> Meter | None:
    """What measures what this device draws, if something does. A sensor may be gone, or renamed by a boot."""
    named = config.governor.power_sensor
    sensors = find_sensors(named=Path(named) if named else None)
    if named and sensors is None:
        logger.warning(
            "governor.power_sensor = %r: it holds no number, or may not be read; energy is modelled by the profile. "
            "Give a file such as /sys/class/hwmon/hwmon2/power1_input, or leave it out to take what is found",
            named,
        )
    return Meter(sensors) if sensors is not None else None


def trainer_limits(profile: FirmwareProfile, config: Config) -> TrainerLimits:
    """What a trainer process may take here."""
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
    return [partial(transport_for, config, identity.peer_id, group, guest) for group in groups]


def transport_for(
    config: Config,
    peer: str,
    urls: Sequence[BrokerUrl],
    guest: bool,
    will: Callable[[], Will | None],
    *,
    connect_s: float = 10.0,
    backoff_s: tuple[float, float] = (1.0, 60.0),
) -> Transport:
    """A connection for this peer to the first of these brokers that takes it in, as the owner says; see `assembled`."""
    mqtt = config.mqtt
    password = "" if all(url.is_found for url in urls) else mqtt.read_password() or ""
    is_any_encrypted = any(BrokerUrl.parse(url).has_tls for url in mqtt.brokers)  # files that no URL uses are refused
    has_tls_files = any((mqtt.ca_file, mqtt.cert_file, mqtt.key_file))
    return Transport(
        urls,
        client_id=f"{peer}-cli-{secrets.token_hex(3)}" if guest else peer,
        keepalive_s=mqtt.keepalive_s or KEEPALIVE_S,
        version=mqtt.version,
        tls=(
            TlsOptions(ca_file=mqtt.ca_file, certificate_file=mqtt.cert_file, key_file=mqtt.key_file)
            if has_tls_files and (any(url.has_tls for url in urls) or not is_any_encrypted)
            else None
        ),
        will=will,
        max_packet_bytes=mqtt.max_packet_bytes,
        username=mqtt.username or (peer if password or mqtt.cert_file else ""),
        password=password,
        found_below=f"{mqtt.root}/",
        connect_s=connect_s,
        backoff_s=backoff_s,
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
