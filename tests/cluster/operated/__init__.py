"""Tier T3: DataCubes that the operator runs in a whole cluster."""
