"""Writes the files that are made from the models: `python -m datacube_flows.cli.generate [folder]`.

Generated files are committed; a check regenerates them and looks for a difference.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from datacube_flows.cli.crd import render_crd

HEADER: Final = "# Generated from the models and rules by `make generate`. Do not edit.\n"
CRD_FILE: Final = Path("operator/deploy/crd.yaml")


def main(root: Path | None = None) -> None:
    """Writes all generated files below a folder, the current one by default."""
    target = (root or Path()) / CRD_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(HEADER + render_crd(), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
