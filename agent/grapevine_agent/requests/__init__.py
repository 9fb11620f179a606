"""What an owner, an engineer or a reviewer may ask of an agent, and its answers."""
