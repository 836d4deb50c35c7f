"""Analytical copies of the current state."""
