"""Routing policies of the router filter, a module each."""
