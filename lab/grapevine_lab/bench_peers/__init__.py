"""Grapevine beside its peers of today: simulators beside simulators, real processes beside real processes.

The systems, their environments, and how a run is measured are those of `bench_simulator`. Here come what passes
between the nodes, the memory of one node, and what a system's environment weighs; and the results are kept, each
system's in a file of its own as soon as a run has ended, so that a failure, or Ctrl-C, loses nothing.
"""
