"""Plug-ins of Acme: a filter, a routing policy and a matcher (docs/plugins.md)."""
