"""Two builds in one run: a commit and what is checked out today, in turns: `make bench-compare BASE=COMMIT`.

Each build runs its own code in an environment of its own, its benchmarks included: what they ask of the rest may have
changed between the two. A machine that is slower for a while slows both, and a ratio is of one turn of each.
"""
