"""The README's blocks, which tests run as a new user would."""

from __future__ import annotations

import re

from tests.support import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """The commands of each console block."""
    blocks = [text for language, text in BLOCKS if language == "console"]
    return [[line[2:] for line in text.splitlines() if line.startswith("$ ")] for text in blocks]
