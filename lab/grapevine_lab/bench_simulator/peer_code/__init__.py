"""What runs inside the peers' environments. It may import PyTorch, numpy and the peer, but nothing of Grapevine.

The harness puts this package, and nothing else, on the peer's import path. Hence the relative imports.
"""
