"""Applications: which are known, which of their components run here, and why."""
