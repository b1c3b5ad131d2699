"""The gateway program: SMTP server to REST, REST to SMTP client. No database, no policy."""
