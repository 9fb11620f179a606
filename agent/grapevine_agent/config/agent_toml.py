"""The owner's configuration: one TOML file and the environment, parsed once into frozen dataclasses.

Where it is read from, first found first: the path that was given (`--config`), `$GRAPEVINE_CONFIG`,
`/etc/grapevine/agent.toml`, `$XDG_CONFIG_HOME/grapevine/agent.toml`. With none of them the defaults
hold: an empty file works.

Environment: a setting of `[agent]` is overridden by `GRAPEVINE_<KEY>` and one of `[mqtt]`, `[review]`, `[trust]`,
`[limits]`, `[governor]`, `[engine]`, `[homeassistant]` or `[metrics]` by `GRAPEVINE_<TABLE>_<KEY>`, lists separated by
commas. `[[data]]`, `[[trainer]]`, `[[consent]]` and the tables inside others have no override. Secrets come from files
or from `GRAPEVINE_MQTT_PASSWORD`, never from the TOML file, and are never shown.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from grapevine_agent.config.brokers import PASSWORD_VARIABLE, read_brokers
from grapevine_agent.config.credentials import comes_at_a_start, handed_over, is_open_to_others
from grapevine_agent.config.data import read_sources
from grapevine_agent.config.elsewhere import NEEDED_BY_MQTT, keys_of_lists, warn_of_no_effect
from grapevine_agent.config.engine import EngineConfig, read_engine, read_labels
from grapevine_agent.config.governor import GovernorConfig, read_governor
from grapevine_agent.config.homeassistant import HomeAssistantConfig, read_homeassistant
from grapevine_agent.config.metrics import MetricsConfig, read_metrics
from grapevine_agent.config.mistakes import Mistakes
from grapevine_agent.config.profile_files import profile_names, profile_path
from grapevine_agent.config.review import ReviewConfig, TrustConfig, joined_trust, read_consent_rules
from grapevine_agent.config.scope import ScopeConfig, check_scope, read_location, read_scope
from grapevine_agent.config.sleep import read_sleep
from grapevine_agent.config.toml_reader import ENVIRONMENT_PREFIX, Table, read_toml_text, suggestion
from grapevine_agent.config.trainers import TrainerConfig, read_trainers
from grapevine_agent.core.settings import AUTO, Consent, ConsentRule
from grapevine_agent.data.source import RECORDINGS_FILE, DataSource
from grapevine_agent.net.packet_limit import SMALLEST_BYTES
from grapevine_agent.units import CREDENTIALS
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.errors import ConfigError
from grapevine_proto.location import Location
from grapevine_proto.roots import DEFAULT_ROOT, check_root

logger = logging.getLogger(__name__)

GiveModels: TypeAlias = Literal["members", "anyone", "nobody"]
Discover: TypeAlias = Literal["", "root", "any"]
Connect: TypeAlias = Literal["first", "all"]
MqttVersion: TypeAlias = Literal["auto", "5", "3.1.1"]
Sandbox: TypeAlias = Literal["strict", "off"]

TABLES: Final = ("agent", "mqtt", "review", "trust", "limits", "governor", "engine", "homeassistant", "metrics")
LISTS: Final = ("data", "trainer", "consent")  # of tables
SYSTEM_CONFIG: Final = Path("/etc/grapevine/agent.toml")
SYSTEM_STATE_DIR: Final = Path("/var/lib/grapevine")
NO_PROFILE: Final = "there is no such firmware profile"
OWN_PROFILE: Final = "a profile of your own is named by its path, ending in .toml"

KEEPALIVE_S: Final = 30  # of a profile that says nothing of its network
LEAST_KEEPALIVE_S: Final = 5
LEAST_STATE_MB: Final = 16  # a database, a key and a small model
_NOT_THERE: Final = "is not there; correct the path"
_LARGEST_PACKET = 268_435_455  # MQTT 5, 2.1.4: four bytes of variable length
# Variables that mean something but are no settings of a table.
_OTHER_VARIABLES = {"GRAPEVINE_CONFIG", "GRAPEVINE_DATA", PASSWORD_VARIABLE}


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """`[agent]`: this device, and how freely it joins tasks."""

    name: str
    state_dir: Path
    profile: str = "generic"  # the name of a firmware profile, or the path of one
    consent: Consent = "ask"
    give_models: GiveModels = "members"  # who is given a released model that it asks for
    judge_updates: bool = True  # by what the others send, before they are merged
    log_level: str = "info"
    site: str = ""  # where it is, for peers that keep to theirs
    location: Location | None = None  # and on the globe, as closely as peers are told
    labels: tuple[tuple[str, str], ...] = ()  # what applications ask for, sorted
    server_group: str = ""  # of servers that share the members among themselves


@dataclass(frozen=True, kw_only=True)
class MqttConfig:
    """`[mqtt]`: the brokers, and how to talk to them."""

    brokers: tuple[str, ...] = ("mqtt://localhost:1883",)
    connect: Connect = "first"  # to the first of them that takes us in, or to each
    scope: ScopeConfig = field(default_factory=ScopeConfig)  # gossip with whomever we meet, or with some of them
    discover: Discover = ""  # connect to brokers that are announced by mDNS: those of our root, or any
    discover_on: str = ""  # our address on the network where they are looked for; empty: all networks
    host_broker: bool = False  # start one where all are silent
    host_after_s: float = 30.0
    gateway: bool = False  # make peers of one of them known at the others, and carry what is said to them
    version: MqttVersion = "auto"
    root: str = DEFAULT_ROOT
    username: str = ""  # empty: the peer id, where a password or certificate is given
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int | None = None  # the firmware profile's, or else KEEPALIVE_S
    max_packet_bytes: int = 1_000_000
    heartbeat_s: float = 5.0
    online_s: float = 0.0  # of every `every_s`, this device is connected; 0: always
    every_s: float = 0.0
    environment_password: str = field(default="", repr=False)

    def read_password(self) -> str | None:
        """The password, from the environment or else from `password_file`; None if there is none.

        Read when it is needed, so that commands that only talk to the running service work for
        users who may not see the secret. Raises `ConfigError` if the file cannot be read.
        """
        if self.environment_password:
            return self.environment_password
        if self.password_file is None:
            return None
        path = self.password_file
        try:
            password = path.read_text(encoding="utf-8").strip()
            found = path.stat()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"mqtt.password_file = {str(path)!r}: cannot be read ({_reason(error)})") from None
        if not password:
            raise ConfigError(f"mqtt.password_file = {str(path)!r}: is empty; write the password into its first line")
        if is_open_to_others(found, path, os.environ):
            logger.warning("%s can be read by other users of this machine: chmod 600 %s", path, path)
        return password


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`[limits]`: what the owner sets instead of the firmware profile; None keeps the profile's value."""

    memory_mb: int | None = None
    cores: int | None = None  # that tasks may ask for, all together
    threads: int | None = None
    max_batch: int | None = None
    max_parameters: int | None = None
    chunk_window: int | None = None
    state_mb: int | None = None  # of the whole state folder
    save_mb_per_day: int | None = None  # of all tasks' models together
    can_train: bool | None = None
    cpu_s: float = 0.0  # of one request to the trainer, all threads together; 0: as long as it may take
    sandbox: Sandbox = "strict"
    step_timeout_s: float = 3600.0  # no request to a trainer takes longer, whatever its task asks for
    round_interval_s: float = 0.2  # no task's rounds are shorter
    upload_mb_per_s: float = 4.0  # of one task's updates, on average
    encoding: str | None = None  # of what is sent, where its task allows it; "auto": the smallest that it allows
    save_every_s: float = 60.0  # no model is saved more often; what a kill costs of a task's training, at least


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that the owner decided. `path` is the file it came from, None for the defaults."""

    agent: AgentConfig
    mqtt: MqttConfig = MqttConfig()
    data: tuple[DataSource, ...] = ()
    trainers: tuple[TrainerConfig, ...] = ()
    review: ReviewConfig = field(default_factory=ReviewConfig)
    trust: TrustConfig = field(default_factory=TrustConfig)
    consent: tuple[ConsentRule, ...] = ()  # the first that fits answers instead of `agent.consent`
    limits: Limits = Limits()
    homeassistant: HomeAssistantConfig = field(default_factory=HomeAssistantConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    governor: GovernorConfig = field(default_factory=GovernorConfig)
    engine: EngineConfig | None = None  # for containers of applications; None: there are none
    path: Path | None = None


def load_config(
    path: Path | None, environ: Mapping[str, str], *, without: Collection[str] = (), with_trust_file: bool = True
) -> Config:
    """Find, read and check the configuration (see the module's docstring), `without` the tables of these names.

    What the environment says of those is not looked at either.

    Raises `ConfigError`, naming the file (or variable), the key, its value and what to write.
    """
    found = find_config(path, environ)
    written, text = read_toml_text(found) if found else ({}, "")
    entries = {name: each for name, each in written.items() if name not in without}
    source = str(found) if found else "defaults"
    base = found.parent.absolute() if found else Path.cwd()
    mistakes = Mistakes(text)
    root = Table(entries, source=source, environ=environ, mistakes=mistakes)
    tables = {name: root.table(name, prefix="" if name in without else _prefix(name)) for name in TABLES}
    data, trainers, rules = map(root.tables, LISTS)
    agent, mqtt = _read_agent(tables["agent"], base, environ), _read_mqtt(tables["mqtt"], base, environ)
    check_scope(tables["mqtt"], mqtt.scope, agent.site, agent.location, () if mqtt.discover else mqtt.brokers)
    review, trust = joined_trust(tables["review"], tables["trust"], agent.state_dir if with_trust_file else None)
    config = Config(
        agent=agent,
        mqtt=mqtt,
        data=read_sources(data, lambda text: _path(text, base, environ), agent.state_dir / RECORDINGS_FILE, mqtt.root),
        trainers=read_trainers(trainers),
        review=review,
        trust=trust,
        consent=read_consent_rules(rules),
        limits=_read_limits(tables["limits"]),
        homeassistant=read_homeassistant(tables["homeassistant"], mqtt.root),
        metrics=read_metrics(tables["metrics"]),
        governor=read_governor(tables["governor"]),
        engine=read_engine(tables["engine"]),
        path=found,
    )
    for table in (root, *tables.values()):  # those in lists are finished by who reads them, if they can be
        table.finish()
    mistakes.end(keys_of_lists)
    warn_of_no_effect(tables["mqtt"], NEEDED_BY_MQTT)
    if not without:
        _warn_of_unknown_variables(environ, set().union(*(table.variables() for table in tables.values())))
    return config


def _prefix(table: str) -> str:
    """How the variables begin that override what is in a table."""
    return ENVIRONMENT_PREFIX if table == "agent" else f"{ENVIRONMENT_PREFIX}{table.upper()}_"


def find_config(path: Path | None, environ: Mapping[str, str], *, system_config: Path = SYSTEM_CONFIG) -> Path | None:
    """The configuration file to read, or None if there is none. A file that was *named* need not exist yet."""
    if path is not None:
        return path
    if named := environ.get("GRAPEVINE_CONFIG"):
        return Path(named)
    # os.path, because it takes a folder that we may not enter for one that is not there.
    for candidate in (system_config, _xdg_dir(environ, "XDG_CONFIG_HOME", ".config") / "grapevine" / "agent.toml"):
        if os.path.lexists(candidate):
            return candidate
    return None


def default_state_dir(environ: Mapping[str, str], *, is_root: bool) -> Path:
    """Where state lives unless the owner says otherwise: /var/lib for root, else the XDG folder."""
    return SYSTEM_STATE_DIR if is_root else _xdg_dir(environ, "XDG_STATE_HOME", ".local/state") / "grapevine"


def state_dir_of(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The state folder, as far as it can be known: the rest of the configuration may have any fault."""
    entries: Mapping[str, object] = {}
    found = find_config(path, environ)
    with suppress(ConfigError):
        entries = read_toml_text(found)[0] if found else {}
    agent = entries.get("agent")
    named = agent.get("state_dir") if isinstance(agent, dict) else ""
    written = environ.get(f"{ENVIRONMENT_PREFIX}STATE_DIR") or named
    if not isinstance(written, str) or not written:
        return default_state_dir(environ, is_root=os.geteuid() == 0)
    return _path(written, found.parent.absolute() if found else Path.cwd(), environ)


def check_files(config: Config, *, by_owner: bool = True, running_with: Mapping[str, str] | None = None) -> None:
    """Raise `ConfigError` for the first file without which the agent cannot run, and that cannot be read.

    Data are none of them: a disk may not be mounted yet. A task that wants what is not there waits, and says why.
    Without `by_owner` somebody else asks, who need not be allowed to read what is there. `running_with`: the
    environment of a service that runs, to which systemd hands over what is new among the credentials at its next start.
    """
    mqtt = config.mqtt
    files = {
        "password_file": mqtt.password_file,
        "ca_file": mqtt.ca_file,
        "cert_file": mqtt.cert_file,
        "key_file": mqtt.key_file,
    }
    named = [(f"mqtt.{key}", path) for key, path in files.items() if path is not None]
    for key, path in named:
        why = _why_not_read(path)
        if why and why != _NOT_THERE:
            base = config.path.parent.absolute() if config.path is not None else Path.cwd()
            if running_with is not None and comes_at_a_start(path, base, running_with):
                continue
            if "CREDENTIALS_DIRECTORY" in os.environ and path.parent != base / CREDENTIALS:
                why = f'{why}, or put it into {base / CREDENTIALS} and write "{CREDENTIALS}/{path.name}"'
        if why == _NOT_THERE or (why and by_owner):
            raise ConfigError(f"{config.path or 'environment'}: {key} = {str(path)!r}: {why}")


def _why_not_read(path: Path) -> str:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _NOT_THERE
    except OSError as error:
        return f"cannot be read ({error.strerror}); check its permissions"
    return "" if os.access(path, os.R_OK) else "cannot be read; check its permissions"


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file is not read, without its path, which stands before it."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"


def _read_agent(table: Table, base: Path, environ: Mapping[str, str]) -> AgentConfig:
    state_dir = table.text("state_dir", "")
    profile = table.text("profile", "generic")
    if profile.endswith(".toml"):
        profile = str(_path(profile, base, environ))
    elif "/" not in profile and profile_path(profile) is None:
        table.wrong("profile", f"{NO_PROFILE}; {suggestion(profile, profile_names())} ({OWN_PROFILE})")
    name = table.text("name", "", pattern=r"[^\x00-\x1f\x7f]*", hint='"kitchen"', max_length=64)
    return AgentConfig(
        name=name or socket.gethostname()[:64],
        state_dir=(
            _path(state_dir, base, environ) if state_dir else default_state_dir(environ, is_root=os.geteuid() == 0)
        ),
        profile=profile,
        consent=cast(Consent, table.text("consent", "ask", choices=("auto", "ask", "never"))),
        judge_updates=table.boolean("judge_updates", True),
        give_models=cast(GiveModels, table.text("give_models", "members", choices=("members", "anyone", "nobody"))),
        log_level=table.text("log_level", "info", choices=("debug", "info", "warning", "error")),
        site=table.text("site", "", pattern=r"[^\x00-\x1f\x7f]*", hint='"lakeside"', max_length=64),
        location=read_location(table),
        labels=read_labels(table),
        server_group=table.text(
            "server_group", "", pattern=r"[a-z0-9-]{1,64}|", hint='"barn" (a-z, 0-9 and -)', max_length=64
        ),
    )


def _read_mqtt(table: Table, base: Path, environ: Mapping[str, str]) -> MqttConfig:
    table.reject(
        "password",
        "a password does not belong in the configuration; write it into a file (chmod 600) and "
        f'set password_file = "…", or set {PASSWORD_VARIABLE}',
    )
    files = {key: table.text(key, "") for key in ("password_file", "ca_file", "cert_file", "key_file")}
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if files[key] and not files[other]:
            table.wrong(key, f"needs {other} too: a certificate and its key go together", beside=[other])
    root = table.text("root", DEFAULT_ROOT)
    try:
        check_root(root)
    except ConfigError as error:
        table.wrong("root", str(error))
        root = DEFAULT_ROOT
    brokers, connect = read_brokers(table, MqttConfig.brokers), _read_connect(table)
    gateway, discover = table.boolean("gateway", False), _read_discover(table)
    if gateway and (connect != "all" or (len(brokers) < 2 and not discover)):
        remedy = 'is between brokers: name two or more in brokers, and write connect = "all"'
        table.wrong("gateway", remedy, beside=["brokers", "connect", "discover"])
    host_broker = _read_host_broker(table, discover)
    online_s, every_s = read_sleep(table, needed_as={"gateway": gateway, "host_broker": host_broker})
    return MqttConfig(
        brokers=brokers,
        connect=connect,
        scope=read_scope(table),
        discover=discover,
        discover_on=_read_discover_on(table),
        host_broker=host_broker,
        host_after_s=table.number("host_after_s", MqttConfig.host_after_s, low=1.0, high=86_400.0),
        gateway=gateway,
        version=cast(MqttVersion, table.text("version", "auto", choices=("auto", "5", "3.1.1"))),
        root=root,
        username=table.text("username", ""),
        **{
            key: handed_over(_path(text, base, environ), base, environ) if text else None for key, text in files.items()
        },
        keepalive_s=table.optional_integer("keepalive_s", low=LEAST_KEEPALIVE_S, high=65_535),
        max_packet_bytes=table.integer("max_packet_bytes", 1_000_000, low=SMALLEST_BYTES, high=_LARGEST_PACKET),
        heartbeat_s=table.number("heartbeat_s", 5.0, low=0.05, high=3600.0),
        online_s=online_s,
        every_s=every_s,
        environment_password=environ.get(PASSWORD_VARIABLE, ""),
    )


def _read_connect(table: Table) -> Connect:
    return cast(Connect, table.text("connect", "first", choices=("first", "all")))


def _read_discover(table: Table) -> Discover:
    match table.anything("discover"):
        case None | False | "false" | "0":
            return ""
        case True | "true" | "1":
            return "root"
        case "any":
            return "any"
    table.wrong("discover", 'must be true, false or "any"; write discover = true')
    return ""


def _read_discover_on(table: Table) -> str:
    address = table.text("discover_on", "")
    try:
        return str(IPv4Address(address)) if address else ""
    except ValueError:
        table.wrong("discover_on", 'is no IPv4 address; write discover_on = "192.168.1.5"')
        return ""


def _read_host_broker(table: Table, discover: Discover) -> bool:
    host = table.boolean("host_broker", False)
    if host and not discover:
        remedy = "is found by others as we find theirs; write discover = true as well"
        table.wrong("host_broker", remedy, beside=["discover"])
    return host


def _read_limits(table: Table) -> Limits:
    window = table.optional_integer("chunk_window", low=1, high=4)
    if window not in (None, 1, 4):
        table.wrong("chunk_window", "must be 1 (slow links) or 4")
    return Limits(
        memory_mb=table.optional_integer("memory_mb", low=1, high=1 << 24),
        cores=table.optional_integer("cores", low=1, high=1024),
        threads=table.optional_integer("threads", low=1, high=1024),
        max_batch=table.optional_integer("max_batch", low=1, high=1 << 20),
        max_parameters=table.optional_integer("max_parameters", low=1, high=1 << 40),
        chunk_window=window,
        state_mb=table.optional_integer("state_mb", low=LEAST_STATE_MB, high=1 << 30),
        save_mb_per_day=table.optional_integer("save_mb_per_day", low=1, high=1 << 30),
        can_train=table.optional_boolean("can_train"),
        cpu_s=table.number("cpu_s", Limits.cpu_s, low=0.0, high=1e9),
        sandbox=cast(Sandbox, table.text("sandbox", Limits.sandbox, choices=("strict", "off"))),
        step_timeout_s=table.number("step_timeout_s", Limits.step_timeout_s, low=10.0, high=7 * 86_400.0),
        round_interval_s=table.number("round_interval_s", Limits.round_interval_s, low=0.01, high=7 * 86_400.0),
        upload_mb_per_s=table.number("upload_mb_per_s", Limits.upload_mb_per_s, low=0.001, high=1e6),
        encoding=table.text("encoding", "", choices=(AUTO, *ENCODINGS)) or None,
        save_every_s=table.number("save_every_s", Limits.save_every_s, low=0.5, high=86_400.0),
    )


def _path(text: str, base: Path, environ: Mapping[str, str]) -> Path:
    """A path as written: `~` is the home folder, a relative one starts at the configuration's folder."""
    if text == "~" or text.startswith("~/"):
        return _home(environ) / text[2:]
    return base / text


def _xdg_dir(environ: Mapping[str, str], variable: str, default: str) -> Path:
    # The XDG specification has relative paths ignored.
    named = Path(environ.get(variable, ""))
    return named if named.is_absolute() else _home(environ) / default


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _warn_of_unknown_variables(environ: Mapping[str, str], known: set[str]) -> None:
    """Unknown variables only warn: another program's may begin alike."""
    known = known | _OTHER_VARIABLES
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known:
            logger.warning("environment variable %s is no setting; %s", variable, suggestion(variable, known))
