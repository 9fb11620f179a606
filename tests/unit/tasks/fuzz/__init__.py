"""Programs drawn at random for every operator: what the checks accept must run, at every batch that there may be.

The hostile corpus is what somebody thought of; this is what nobody did. `drawing` is a program in the
making, `arguments` draws what an operator may be given, legal or nearly so, `judging` lets the checks
decide and then runs what they accept. A short part is in the tests; a campaign runs by command:

    python -m tests.unit.tasks.fuzz.run --seconds 600 --seed 1
"""
