"""The words of the product as plain values; imports no driver and no engine."""
