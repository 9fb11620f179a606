"""The way to the brokers: URLs, a transport over MQTT, and an outbox for what must survive a lost connection."""
