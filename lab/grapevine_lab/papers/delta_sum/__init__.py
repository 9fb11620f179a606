"""Delta Sum Learning (Goethals et al. 2025), figures 2 to 4, run by Grapevine's own agents.

`python -m grapevine_lab.papers.delta_sum`; what came out stands in docs/results/delta-sum.md.
"""
