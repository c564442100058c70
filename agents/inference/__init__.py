"""Model calls: one call type, one layer a file."""
