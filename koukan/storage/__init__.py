"""The shared database: transactions, queue, leases, bodies. The router sees whole-transaction operations, not SQL."""
