"""The output chain: an engine that runs filters over the steps of a transaction, and the filters themselves."""
