"""What the owner wrote: the configuration file, its tables, firmware profiles and the file of trusted peers.

This room stands above `core`, `data`, `net` and `store`: it turns an owner's words into their settings, and
holds topics, formats and files against their rules. Nothing in those rooms looks back at it.
"""
