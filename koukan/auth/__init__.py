"""Authentication of mail: SPF (RFC 7208) and DKIM (RFC 6376, RFC 8463)."""
