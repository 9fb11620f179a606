"""This device as Home Assistant sees it."""
