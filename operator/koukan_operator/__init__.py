"""The Kubernetes operator: KoukanRouter, KoukanGateway and OutputChain become Deployments, ConfigMaps and Services."""
