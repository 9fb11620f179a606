"""What the operator set covers: named models, built into programs and trained beside eager PyTorch."""
