"""What the overlay does among many agents on one machine, over real brokers: `python -m grapevine_lab.overlay`."""
