"""Messages (RFC 5322, MIME): addresses, headers, builder, parser, validation, bounces. No network, no database."""
