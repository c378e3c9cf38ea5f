"""What speaks to a cluster's API server: requests, DataCubes that are applied and waited for, attempts as pods."""
