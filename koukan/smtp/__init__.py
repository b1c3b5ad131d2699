"""SMTP both ways (RFC 5321): server sessions and a client with pooled connections."""
