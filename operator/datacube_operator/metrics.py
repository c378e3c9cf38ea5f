"""What Prometheus may know of the operator, in a registry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacube_flows.api.reasons import Reason


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

        self._runs = self._count("datacube_runs", "Runs that ended, by how.", "kind", "reason")
        self._bytes = self._count("datacube_bytes", "Bytes that ended runs moved.", "kind")
        self._attempts = self._count("datacube_attempts", "Attempts that ended, by how.", "reason")
        self._log_reads = self._count("datacube_log_reads", "Reads of attempts' logs.", "code")

    def run_ended(self, kind: str, reason: Reason, size: int) -> None:
        """Counts a run that ended, of a kind named in `core/kinds.py`, and the bytes that it moved."""
        self._runs.labels(kind, reason).inc()
        self._bytes.labels(kind).inc(size)

    def attempt_ended(self, reason: Reason) -> None:
        """Counts an attempt that ended, well or not."""
        self._attempts.labels(reason).inc()

    def log_read(self, code: int) -> None:
        """Counts a read of a log by the answer's status; 0 is no answer."""
        self._log_reads.labels(code or "none").inc()

    def watch_depth(self, queue: str, depth: Callable[[], float]) -> None:
        """Has the depth of a queue asked for whenever the metrics are read."""
        self._depth.labels(queue).set_function(depth)

    def _count(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def render(self) -> bytes:
        """Returns all of them in Prometheus's text format."""
        return generate_latest(self.registry)
