"""Writes the files that are made from the models: `python -m datacube_flows.cli.generate [folder]`.

Generated files are committed; a check regenerates them and looks for a difference.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from datacube_flows.core.crd import make_crd

HEADER: Final = "# Generated from the models and rules by `make generate`. Do not edit.\n"
CRD_FILE: Final = Path("operator/deploy/crd.yaml")


class _PlainDumper(yaml.SafeDumper):
    """Writes every value out in full: aliases would save lines, but tools that read a CRD do not all know them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(document: Any) -> str:
    """Returns a document as YAML in the order in which it was made, without aliases."""
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)


def main(root: Path | None = None) -> None:
    """Writes all generated files below a folder, the current one by default."""
    target = (root or Path()) / CRD_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(HEADER + to_yaml(make_crd()), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
