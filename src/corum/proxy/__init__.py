"""What stands in front of a cluster without being a member of it."""
