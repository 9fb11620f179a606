"""Local training: the trainer process and what runs inside it. Only the latter imports torch."""
