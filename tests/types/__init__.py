"""Types and canonical forms."""
