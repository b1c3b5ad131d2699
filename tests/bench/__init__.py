"""Messages per second and CPU per message, of all processes, beside Postfix: `make bench`."""
