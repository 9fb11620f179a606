"""Whether this device may train now, and what it may still send today: see `governor`."""
