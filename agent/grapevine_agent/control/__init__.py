"""How commands talk to the running service: a Unix socket in the state folder."""
