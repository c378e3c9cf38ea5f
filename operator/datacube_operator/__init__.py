"""The operator: watches DataCubes, has engines run them, and tells in their status what became of it.

The controller runtime stands in modules of its own (client, informer, queue, controller, lease, ...), which know
nothing of DataCubes.
"""
