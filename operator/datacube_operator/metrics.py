"""What Prometheus may know of the operator, in a registry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "datacube_api_requests", "Requests to the API server.", ["verb", "code"], registry=self.registry
        )
        self.reconciles = Histogram(
            "datacube_reconcile_seconds", "Time of one reconcile.", ["controller", "outcome"], registry=self.registry
        )
        self.watch_restarts = Counter(
            "datacube_watch_restarts", "Watches that ended, by why.", ["resource", "reason"], registry=self.registry
        )
        self.leader = Gauge("datacube_leader", "1 on the replica that writes.", registry=self.registry)
        self._depth = Gauge("datacube_queue_depth", "Keys that wait for a worker.", ["queue"], registry=self.registry)

    def watch_depth(self, queue: str, depth: Callable[[], float]) -> None:
        """Has the depth of a queue asked for whenever the metrics are read."""
        self._depth.labels(queue).set_function(depth)

    def render(self) -> bytes:
        """Returns all of them in Prometheus's text format."""
        return generate_latest(self.registry)
