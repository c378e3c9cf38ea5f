"""What happens inside an attempt: the transfers themselves. No Kubernetes API, no engine."""
