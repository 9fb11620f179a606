"""`grapevine lab`: brokers and agents as real machines that learn together, and what is done to them."""
