"""`datacube crd`: the CustomResourceDefinition as YAML, made from the models."""

from __future__ import annotations

from typing import Any

import yaml

from datacube_flows.core.crd import make_crd


class _Dumper(yaml.SafeDumper):
    """Writes no aliases: `kubectl` and people read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: a value that stands twice is written twice."""
        return True


def render_crd() -> str:
    """Returns the CRD as one YAML document."""
    return yaml.dump(make_crd(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
