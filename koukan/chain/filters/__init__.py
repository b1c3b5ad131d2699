"""The built-in filters, a module each."""
