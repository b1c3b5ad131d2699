"""The REST protocol both ways: handlers over a transaction service, and a client that is an Upstream."""
