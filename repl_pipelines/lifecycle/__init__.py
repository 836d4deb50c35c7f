"""What is done to a replication as a whole: paused, moved, renamed, removed."""
