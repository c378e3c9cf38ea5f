"""Every label and annotation that DataCube writes or reads, in one place."""

from typing import Final

PREFIX: Final = "datacube.tensorstack.dev"

NAME: Final = f"{PREFIX}/name"
UID: Final = f"{PREFIX}/uid"
RUN: Final = f"{PREFIX}/run"
KIND: Final = f"{PREFIX}/kind"
PLAN: Final = f"{PREFIX}/plan"
ATTEMPT: Final = f"{PREFIX}/attempt"

STEP: Final = f"{PREFIX}/step"
TRANSFER: Final = "transfer"
PROVISION: Final = "provision"
"""What a pod does: only pods of the step `transfer` are attempts."""

RERUN: Final = f"{PREFIX}/rerun"
"""Annotation on a DataCube: any new value runs it again (SPEC section 5)."""

ENDED_BY: Final = f"{PREFIX}/ended-by"
"""Annotation on a workflow that the operator has shut down, and why: not a person's doing."""

PREFECT_CLIENT: Final = f"{PREFIX}/prefect-client"
"""Label `true` of a namespace whose pods may speak with the installed Prefect server."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "datacube"

MAX_LABEL: Final = 63


def label_value(text: str) -> str:
    """Returns `text` cut to what a label may hold (63 characters, ending in a letter or digit)."""
    return text[:MAX_LABEL].rstrip("-._")
