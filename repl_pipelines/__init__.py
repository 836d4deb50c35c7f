"""Replicates operational databases to a lake and to analytical replicas, and proves the copies."""
