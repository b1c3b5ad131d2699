"""Body storage: small bodies in memory, larger ones spooled to a file; readers stream."""
