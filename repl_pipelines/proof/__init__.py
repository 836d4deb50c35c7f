"""Canonical form, checksum, comparison."""
