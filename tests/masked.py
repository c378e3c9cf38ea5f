"""Statuses without what differs from run to run: names, times, uids and pages; and where two still differ."""

from __future__ import annotations

import json
import re
from typing import Any

Document = dict[str, Any]
Pair = tuple[Any, Any]

ABSENT = "(absent)"

TIMES = ("startTime", "completionTime", "finishTime", "lastProbeTime", "lastTransitionTime")


def masked(status: Document) -> Document:
    """Returns a status in which each name stands for what it is; what is not there stays away."""
    text = json.dumps(status)
    for mask, name in _names(status):
        text = text.replace(json.dumps(name)[1:-1], mask)
    found: Document = _without_times(json.loads(text))
    return found


def _names(status: Document) -> list[tuple[str, str]]:
    """What each name is masked with, the longest first: a pod's may begin with its run's."""
    workflow, pod = status.get("workflow") or {}, (status.get("pod") or {}).get("reference") or {}
    found = [(f"(pod {a['number']})", a["pod"]) for a in status.get("attempts") or () if a.get("pod")]
    found += [("(pod)", pod.get("name", "")), ("(uid of the pod)", pod.get("uid", ""))]
    found += [(f"({field} of the run)", workflow.get(field, "")) for field in ("url", "uid", "name")]
    return sorted((pair for pair in found if pair[1]), key=lambda pair: -len(pair[1]))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "(time)" if k in TIMES else _without_times(inner) for k, inner in value.items()}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def differences(one: Document, other: Document) -> dict[str, set[Pair]]:
    """Returns field -> what it is in either, where that is not the same; items of a list are one field."""
    here, there = _leaves(one), _leaves(other)
    found: dict[str, set[Pair]] = {}
    for path in here | there:
        pair = (here.get(path, ABSENT), there.get(path, ABSENT))
        if pair[0] != pair[1]:
            found.setdefault(re.sub(r"\[\d+\]", "", path), set()).add(pair)
    return found


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        inner = {f"{path}.{name}" if path else name: part for name, part in value.items()}
    elif isinstance(value, list) and value:
        inner = {f"{path}[{index}]": part for index, part in enumerate(value)}
    else:
        return {path: value}
    return {where: leaf for at, part in inner.items() for where, leaf in _leaves(part, at).items()}
