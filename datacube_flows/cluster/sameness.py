"""Whether a DataCube that is in a cluster is the transfer that a document describes. Pure.

The API server cannot tell: what a document leaves out and the object has, stays there when the document is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datacube_flows.api.parse import parse_datacube
from datacube_flows.core.plan import Policy, TransferPlan, make_plan
from datacube_flows.errors import InvalidDataCube

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.api.datacube import DataCube

ANY_SCHEME: Final = Policy(allowed_schemes=("https", "http"))
"""What a cluster allows is for its operator to say."""

_OF_THE_OBJECT: Final = frozenset({"name", "namespace", "uid", "run_id"})
_WORDS: Final = {
    "kind_name": "type",
    "claim": "pvc",
    "secret_env": "options",
    "user_env": "env",
    "env": "options or env",
    "retries": "backoffLimit",
    "deadline_seconds": "activeDeadlineSeconds",
    "pod": "the pod's settings",
}


def differences(ours: DataCube, theirs: Mapping[str, Any]) -> list[str]:
    """Returns in what a DataCube of a cluster is another transfer than ours; nothing where it is the same.

    Args:
        ours: what is wanted; keeps all rules.
        theirs: the object as the API shows it.
    """
    try:
        there = _facts(make_plan(parse_datacube(theirs), ANY_SCHEME))
    except InvalidDataCube:
        return ["what this version does not know"]
    here = _facts(make_plan(ours, ANY_SCHEME))
    return list(dict.fromkeys(_word(name) for name in here if here[name] != there[name]))


def _facts(plan: TransferPlan) -> dict[str, Any]:
    """What a plan does; in which order variables stand does nothing."""
    facts = plan.model_dump(exclude=set(_OF_THE_OBJECT))
    for name in ("env", "secret_env", "user_env"):
        facts[name] = sorted(facts[name], key=str)
    return facts


def _word(name: str) -> str:
    return _WORDS.get(name) or TransferPlan.model_fields[name].alias or name
