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


def dump_yaml(document: dict[str, Any]) -> str:
    """Returns an object as one YAML document without aliases."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def render_crd() -> str:
    """Returns the CRD as one YAML document."""
    return dump_yaml(make_crd())
