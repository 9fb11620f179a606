"""What hostile members cost those who are honest: every attack, on every task, as tables."""
