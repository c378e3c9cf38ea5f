"""Engines execute a plan; the truth stays in the DataCube's status. One module an engine."""
