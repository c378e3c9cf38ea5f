"""A whole Kubernetes cluster on this machine, for tests: built, started and ended by `python -m tests.cluster`."""
