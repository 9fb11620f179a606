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
# debug, info, warning or error
#log_level = "info"

[mqtt]
# mqtt://, mqtts:// (TLS), ws:// or wss://. With several, they are tried in this order.
#brokers = ["mqtt://localhost:1883"]
# "auto" tries MQTT 5, then 3.1.1.
#version = "auto"
# Everything lies below this topic: one or two levels.
#root = "grapevine/v1"
# Only for brokers that want a login; without a username the peer id is used.
#username = "kitchen"
# One line, readable by the agent alone. Or set GRAPEVINE_MQTT_PASSWORD. Never write a password here.
#password_file = "mqtt-password"
# TLS: who signs the broker's certificate (default: the system's authorities), and our own certificate.
#ca_file = "ca.pem"
#cert_file = "agent.pem"
#key_file = "agent.key"
#keepalive_s = 30
# Larger messages are not sent: a model must fit. Raise it on every member and on the broker.
#max_packet_bytes = 1000000
#heartbeat_s = 5.0

# What this device can train on. The kind is matched against what tasks ask for; the file never leaves the device.
#[[data]]
#kind = "digits-8x8"
#path = "digits.npz"
#name = "digits"

[review]
# A task runs here once so many of the reviewers that you trust approved it, and none of them rejected it.
#approvals = 2
# Peer ids (see `grapevine status` on the reviewer's machine).
#trusted = ["aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"]

[trust]
# Whose tasks may run here. Empty: anybody's, once reviewed.
#publishers = []
# Servers that you trust beside those that a task names.
#servers = []

[limits]
# Set these to give less, or more, than the firmware profile does.
#memory_mb = 700
#threads = 3
#max_batch = 64
#max_parameters = 5000000
#chunk_window = 4
#can_train = true
"""
