"""The algorithm, end to end, on real servers."""
