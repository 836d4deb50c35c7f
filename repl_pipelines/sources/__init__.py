"""Operational databases we read from."""
