"""The shell around the core: connection, disk, trainers, recordings and clock of one running agent."""
