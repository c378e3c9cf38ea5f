"""Which arguments of `rclone copy` and `rclone sync` a document may give, and why not the others (SECURITY 2.4)."""

from __future__ import annotations

from typing import Final

from datacube_flows.core.flags import TEXT, Verb, make_verb, size, toggle, valued, whole

_ALLOW: Final = (
    valued("--transfers", whole(1, 128)),
    valued("--checkers", whole(1, 256)),
    valued("--include", TEXT),
    valued("--exclude", TEXT),
    valued("--s3-chunk-size", size("512M")),
    toggle("-c --checksum"),
)
RCLONE_COPY: Final[Verb] = make_verb("rclone copy", allow=_ALLOW, deny={})
RCLONE_SYNC: Final[Verb] = make_verb("rclone sync", allow=_ALLOW, deny={})
