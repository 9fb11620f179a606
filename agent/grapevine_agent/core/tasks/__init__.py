"""The tasks that an agent has heard of: their records, judgement, versions and life."""
