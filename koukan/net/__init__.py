"""Names, certificates and proxies: what the network needs below SMTP and HTTP."""
