"""Bulks on their way: what is too large for a packet, asked for and given in chunks (see `grapevine_proto.bulk`)."""
