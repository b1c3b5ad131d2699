"""gateway.yaml and router.yaml as types: the single source of validation, of the CRD schema and of the reference page."""
