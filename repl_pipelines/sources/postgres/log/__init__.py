"""Mode `log` on PostgreSQL: publication, slot, stream, and the exact cut of a batch."""
