"""The router program: delivery attempts, exploder, retries, bounces, the queue."""
