"""Follows the workflows and pods of a namespace by watches, so that no moment of a run is missed."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

KINDS = ("workflows", "pods")

Document = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """The objects of a namespace as they were after the last event that was taken.

    Attributes:
        objects: kind -> name -> object.
    """

    events: queue.SimpleQueue[tuple[str, Document]]
    objects: dict[str, dict[str, Document]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def take(self, seconds: float) -> bool:
        """Takes the next event, if one comes in time."""
        try:
            kind, event = self.events.get(timeout=seconds)
        except queue.Empty:
            return False
        name = event["object"]["metadata"]["name"]
        if event["type"] == "DELETED":
            self.objects[kind].pop(name, None)
        else:
            self.objects[kind][name] = event["object"]
        return True


@contextmanager
def watched(cluster: Cluster, namespace: str) -> Iterator[Watched]:
    """Watches a namespace from now on."""
    events: queue.SimpleQueue[tuple[str, Document]] = queue.SimpleQueue()
    with ExitStack() as stack:
        for kind in KINDS:
            stack.enter_context(_watch(cluster, namespace, kind, events))
        yield Watched(events)


@contextmanager
def _watch(
    cluster: Cluster, namespace: str, kind: str, events: queue.SimpleQueue[tuple[str, Document]]
) -> Iterator[None]:
    flags = (f"--namespace={namespace}", "--watch", "--output-watch-events", "--output=json")
    command = cluster.kubectl_command("get", kind, *flags)
    with subprocess.Popen(command, env=cluster.kubectl_environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, kind, events))
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join()


def _read(stream: IO[str], kind: str, events: queue.SimpleQueue[tuple[str, Document]]) -> None:
    """Puts the events of a stream, one a line."""
    for line in stream:
        events.put((kind, json.loads(line)))
