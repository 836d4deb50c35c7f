"""The algorithm: read, commit to the lake, apply to the replicas, prove."""
