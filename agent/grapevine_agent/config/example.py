"""The configuration file that `grapevine init` writes: every setting, with its default, commented out.

Lines that begin with `# ` are prose; lines that begin with `#` and no space are settings, shown with
their defaults or with an example. Removing that one character gives a valid file.
"""

EXAMPLE_CONFIG = """\
# Grapevine agent. Every setting is optional: an empty file works.
#
# A setting in [agent] can be overridden by the environment variable GRAPEVINE_<KEY>, one in another
# table by GRAPEVINE_<TABLE>_<KEY>: GRAPEVINE_STATE_DIR, GRAPEVINE_MQTT_BROKERS, GRAPEVINE_REVIEW_APPROVALS.
# Lists are separated by commas there. Relative paths start at this file's folder.
# What is called docs/… here lies in the repository; the Debian package has it in /usr/share/doc/grapevine.

[agent]
# What people see; the default is this machine's host name. An identity is made by itself.
#name = "kitchen"
# Keys, records and models. Default: /var/lib/grapevine for root, else $XDG_STATE_HOME/grapevine.
#state_dir = "/var/lib/grapevine"
# What this device can do: the name of a firmware profile, or a path to one of your own (.toml).
#profile = "generic"
# Approved tasks that fit this device's data: join them ("auto"), wait for your word ("ask"), or "never".
#consent = "ask"
# Who is given the model that this device has learned: a task's publisher and its "members" (who gossip it
# anyway), "anyone" or "nobody".
#give_models = "members"
# Hold each update against what the others send before it is merged, and turn away who lies again and again.
#judge_updates = true
# debug, info, warning or error
#log_level = "info"
# Where this device is. Peers are told, and with scope = "site" in [mqtt] those of one site keep to each other.
#site = "lakeside"
# The same as [latitude, longitude] in degrees. Peers are told it to a hundredth of a degree, about a kilometre.
#location = [52.52, 13.40]
# What applications may ask for, announced to everybody: docs/applications.md.
#labels = { room = "kitchen", floor = "2" }
# Of a server alone: servers of a task that say the same group share its members, and each update goes to one of them.
#server_group = "barn"

[mqtt]
# mqtt://, mqtts:// (TLS), ws:// or wss://. With several, they are tried in this order.
#brokers = ["mqtt://localhost:1883"]
# "first": to the first of them that takes us in, and to the next where it does not; "all": to each, all the time.
#connect = "first"
# With "all": make peers of one of them known at the others, and carry what is said to them.
#gateway = false
# "site": models are exchanged with peers of this device's site alone. Or a table in its place, of which all must hold:
#   [mqtt.scope]
#   site = true
#   within_km = 5
#   within_ms = 40
#   brokers = ["mqtt://localhost:1883"]
#scope = "everywhere"
# Brokers that are announced on the local network (mDNS) with our root in their TXT record, or "any" at all, are tried
# behind these. They are sent no login. discover_on: this device's address on that network; without it, all of them.
#discover = false
#discover_on = "192.168.1.5"
# Where every broker is silent for host_after_s, start one that anybody on the network can use. Needs discover.
#host_broker = false
#host_after_s = 30.0
# "auto" tries MQTT 5, then 3.1.1.
#version = "auto"
# Everything lies below this topic: one or two levels.
#root = "grapevine/v1"
# Only for brokers that want a login; without a username the peer id is used.
#username = "kitchen"
# One line, readable by the agent alone. Or set GRAPEVINE_MQTT_PASSWORD. Never write a password here. A service of the
# system is handed what lies in the folder credentials/ beside this file; elsewhere it must be its user's (chmod 600).
#password_file = "credentials/mqtt-password"
# TLS: who signs the broker's certificate (default: the system's authorities), and our own certificate.
#ca_file = "ca.pem"
#cert_file = "agent.pem"
#key_file = "agent.key"
# How long a line may be silent before it is asked for. Default: the firmware profile's, or else 30.
#keepalive_s = 30
# Larger messages are not sent: a model must fit. Raise it on every member and on the broker.
#max_packet_bytes = 1000000
#heartbeat_s = 5.0
# For batteries: connected for the first online_s of every every_s by the clock, such as five minutes of each hour. Give
# the devices of an overlay the same every_s, so that they meet. Without these two: connected all the time.
#online_s = 300
#every_s = 3600

# What this device can train on. The kind is matched against what tasks ask for; samples never leave the device.
# Files (.npz, .csv, .parquet), folders of images, SQLite queries and live topics: see docs/data-sources.md.
# `grapevine data check` shows what is in them.
#[[data]]
#kind = "digits-8x8"
#path = "digits.npz"
#name = "digits"

# Sensors on this broker, recorded while the agent runs. [data.columns] comes last: it says where a message has what.
#[[data]]
#kind = "climate-2"
#source = "mqtt"
#topic = "zigbee2mqtt/+"
#every_s = 60
#keep_days = 30
#[data.columns]
#temperature = "$.temperature"
#humidity = "$.humidity"
# Sensors that publish each quantity on a topic of its own: temperature = { topic = "home/+/temperature" }.

# A trainer of your own for a task or a kind of data: docs/trainers.md.
#[[trainer]]
#kind = "digits-8x8"
#url = "unix:///run/my-trainer.sock"

[review]
# A task runs here once so many of the reviewers that you trust approved it, and none of them rejected it.
# `grapevine trust add` adds reviewers, publishers and servers without touching this file.
#approvals = 2
# Peer ids (see `grapevine id` on the reviewer's machine).
#trusted = ["aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"]
# Whose single rejection stops a task: any "trusted" reviewer's, only that of "roles", or "none".
#veto = "trusted"
# An approval counts for so long after it was signed, whatever it says.
#max_valid_days = 7.0
# On a reviewer's machine: sign own verdicts again before they run out, while the agent runs.
#renew = false

# Reviewers by what they are good at, and how many of each kind must have approved.
#[review.roles]
#security = ["aaaaaaaaaaaaaaaaaaaa"]
#[review.need]
#security = 1

[trust]
# Whose tasks may run here. Empty: anybody's, once reviewed.
#publishers = []
# Whose tasks never run here.
#deny_publishers = []
# Servers that you trust beside those that a task names.
#servers = []

# Other numbers of approvals for some publishers; "own" is this device, 0 asks for no reviews at all.
#[trust.approvals]
#own = 1

# Consent for some tasks; the first rule that fits answers instead of consent in [agent]. A name is its publisher's to
# choose: rules with "auto" name a publisher as well.
#[[consent]]
#publisher = "aaaaaaaaaaaaaaaaaaaa"
#kind = "digits-8x8"
#name = "Handwritten*"
#answer = "auto"

[limits]
# Set these to give less, or more, than the firmware profile does.
#memory_mb = 700
#threads = 3

# Cores that all joined tasks may ask for together; more than there are: trainers take turns, and each is slower.
#cores = 4
#max_batch = 64
#max_parameters = 5000000
#chunk_window = 4
#can_train = true
# CPU time of one request to a trainer, all its threads together; 0: as long as the request may take.
#cpu_s = 0
# No request to a trainer takes longer, whatever a task wants computed; a task whose rounds must take longer is not
# joined. Raise it for long rounds on a slow board.
#step_timeout_s = 3600.0
# No task's rounds are shorter than this, and none sends more updates than this, on average (2^20 bytes).
#round_interval_s = 0.2
#upload_mb_per_s = 4.0
# How vectors are written that are sent: "auto" takes the smallest encoding that a task allows, as profiles do.
# "float32" is exact; receivers pay for it, too.
#encoding = "auto"
# A model that has changed is saved this often, or more seldom where all of them would write more than
# save_mb_per_day (2^20 bytes): a kill or a power cut costs at most that much training. `grapevine status` shows it.
#save_every_s = 60.0
#save_mb_per_day = 1000
# The whole state folder. Where it grows beyond, the models of tasks that were left go, the oldest first.
#state_mb = 2000
# "off" trains without system call filter and Landlock, for kernels that have neither.
#sandbox = "strict"

# When this device trains, and what it may use of a day; `grapevine status` says what holds. 0 is no limit.
[governor]
# °C of the hottest zone: above the first it trains for a quarter of the time, above the second not at all.
#slow_above_c = 70
#pause_above_c = 80
# "pause", "slow" or "train" where the board throttles itself, and where it runs on a battery.
#throttling = "pause"
#on_battery = "train"
# On battery it pauses below so much charge.
#battery_above_percent = 20
# Spans of local time in which it does not train.
#quiet_hours = ["22:00-07:00"]
# A day's bytes (2^20) after which no models are sent, and kJ after which nothing is trained, until midnight.
#upload_mb_per_day = 200
#energy_kj_per_day = 100
# It pauses where programs wait for memory for so much of the time, and where less is free on the disk (10^6 bytes).
#memory_pressure_percent = 40
#free_disk_mb = 100
# Of the time in which it may train, the share that it does.
#duty_cycle = 1.0
# The sensor that measures what the device draws; without it, what is found, or the profile's watts.
#power_sensor = "/sys/class/hwmon/hwmon2/power1_input"

# Show this device in Home Assistant, by the brokers above. Who may publish below root may press its buttons.
[homeassistant]
#enabled = false
# Where Home Assistant looks for devices, and where it says that it has started.
#prefix = "homeassistant"
#status = "homeassistant/status"
# Figures and commands lie below; not within the root of [mqtt].
#root = "grapevine-homeassistant"
# Numbers that change are said so often at most.
#every_s = 60.0
# The switch and the buttons. false: it is only shown.
#commands = true

# Figures for Prometheus at http://<listen>/metrics. Needs the extra "metrics".
[metrics]
#enabled = false
#listen = "127.0.0.1:9464"
# true lets listen be an address that other machines reach. Nobody is asked for a login there.
#allow_remote = false

# Containers of applications: docs/applications.md. Off, unless you enable it; an image is named by its digest.
[engine]
#enabled = true
#allow_images = ["docker.io/library/nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000"]
# Ports that a service may listen on, and the address on which they are reached.
#allow_ports = [8080]
#publish_on = "127.0.0.1"
# Of all containers together.
#memory_mb = 256
#cpus = 1.0
#max_containers = 4
# Docker's command, or one that takes the same words.
#command = "docker"
"""
