"""What stands between a member's update and the merge: see `guard`."""
