"""This device's figures for Prometheus."""
