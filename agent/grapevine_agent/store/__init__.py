"""State on disk that survives a kill at any instant."""
