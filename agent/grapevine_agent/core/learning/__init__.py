"""How one task is learned together: what is taken in, merged, trained, sent and served."""
