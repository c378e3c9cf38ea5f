"""Which arguments of `hf download` and `hf upload` a document may give, and why not the others (SECURITY 2.4).

Every flag that the tool prints is in here; a test reads the tool's help and fails on one that is not.
"""

from __future__ import annotations

from typing import Final

from datacube_flows.core.flags import (
    CACHE_PATH,
    TEXT,
    WORD,
    Verb,
    as_env,
    dropped,
    make_verb,
    one_of,
    switch,
    valued,
    whole,
)

_OUTPUT: Final = "the transfer reads the tool's output"
_IN_ARGV: Final = "a credential in argv is seen by every process: use option `token`"
_DRY_RUN: Final = "use executor.options.dryRun"
_HELP: Final = "the tool would print its help and move nothing"
_LONE: Final = {
    "--token": _IN_ARGV,
    "--format --json --no-truncate": _OUTPUT,
    "-h --help --install-completion --show-completion": _HELP,
}

_COMMON: Final = (
    valued("--type --repo-type", one_of("model", "dataset", "space")),
    valued("--revision", WORD),
    valued("--include", TEXT),
    valued("--exclude", TEXT),
    dropped("-q --quiet", "progress is shown by DataCube itself"),
)

HF_DOWNLOAD: Final[Verb] = make_verb(
    "hf download",
    allow=(
        *_COMMON,
        switch("--force-download"),
        switch("--no-force-download"),
        valued("--max-workers", whole(1, 64)),
        as_env("--cache-dir", CACHE_PATH, "HF_HUB_CACHE"),
        dropped("--resume-download", "downloads always resume"),
        dropped(
            "--local-dir-use-symlinks",
            "files are always real files in the folder",
            one_of("True", "true", "False", "false", "auto"),
        ),
    ),
    deny=_LONE
    | {
        "--local-dir": "the folder is sink.pvc.subPath",
        "--dry-run --no-dry-run": _DRY_RUN,
    },
)

HF_UPLOAD: Final[Verb] = make_verb(
    "hf upload",
    allow=(*_COMMON, valued("--commit-message", TEXT), valued("--commit-description", TEXT)),
    deny=_LONE
    | {
        "--private --no-private": "use option `private`",
        "--delete": "an upload deletes nothing in the repository",
        "--every": "it never ends: apply the DataCube again instead",
        "--create-pr --no-create-pr": "the upload is verified at option `revision`",
    },
)
