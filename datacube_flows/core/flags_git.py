"""Which arguments of `git clone`, `fetch` and `push` a document may give, and why not the others (SECURITY 2.4).

Every flag that the tool prints is in here; a test reads the tool's help and fails on one that is not.
"""

from __future__ import annotations

from typing import Final

from datacube_flows.core.flags import TEXT, WORD, Verb, dropped, make_verb, matching, switch, valued, whole

_DEPTH: Final = whole(1, 2_147_483_647)
_FILTER: Final = matching(
    r"blob:none|blob:limit=[0-9]{1,12}[kmg]?|tree:[0-9]{1,4}|object:type=(tag|commit|tree|blob)",
    "`blob:none`, `blob:limit=<size>`, `tree:<depth>` or `object:type=<type>`",
    "blob:none",
)
_SINCE: Final = matching(
    r"[A-Za-z0-9][A-Za-z0-9 :.,+/-]{0,63}", "a time such as 2026-01-31 or '2 weeks ago'", "2026-01-31"
)

_EXECUTES: Final = "it names a program to run"
_SUBMODULES: Final = "submodules are not fetched: their URLs come from untrusted content"
_REMOTE: Final = "the remote is option `url`"
_REFERENCE: Final = "it reads a repository outside of the transfer's folder"
_SHAPE: Final = "the transfer makes a repository with a working tree"
_REF: Final = "use option `ref`"
_REFSPEC: Final = "the transfer chooses the refs itself: use option `ref`"
_FETCH_HEAD: Final = "the transfer reads what the tool writes there"
_FORCE: Final = "nothing is overwritten by force: merge or remove the other side first"
_DELETES: Final = "a transfer deletes no refs"
_DRY_RUN: Final = "use executor.options.dryRun"
_PROGRESS: Final = "progress is shown by DataCube itself, and tells a stall from work"
_HELP: Final = "the tool would print its help and move nothing"
_UPSTREAM: Final = "the transfer writes no settings into the repository on the volume"

_COMMON: Final = (
    switch("-v --verbose"),
    dropped("-q --quiet", _PROGRESS),
    switch("--progress"),
    dropped("--no-progress", _PROGRESS),
    switch("-4 --ipv4"),
    switch("-6 --ipv6"),
)
_DOWNLOAD: Final = (
    *_COMMON,
    valued("--depth", _DEPTH),
    valued("--shallow-since", _SINCE),
    valued("--shallow-exclude", WORD),
    valued("-j --jobs", whole(1, 64)),
    valued("--server-option", TEXT),
)

GIT_CLONE: Final[Verb] = make_verb(
    "git clone",
    allow=(
        *_DOWNLOAD,
        switch("--single-branch"),
        switch("--no-single-branch"),
        switch("--no-tags"),
        switch("--reject-shallow"),
        valued("--filter", _FILTER),
    ),
    deny={
        "-u --upload-pack": _EXECUTES,
        "-c --config": "settings can name programs to run and files to read",
        "--template": "a template's hooks are programs to run",
        "--recurse-submodules --recursive --shallow-submodules": _SUBMODULES,
        "--remote-submodules --also-filter-submodules": _SUBMODULES,
        "--separate-git-dir": "it puts the repository outside of the transfer's folder",
        "--reference --reference-if-able --dissociate -s --shared -l --local --no-hardlinks": _REFERENCE,
        "--bundle-uri": "it fetches from an address other than option `url`",
        "-o --origin": "the remote is always called `origin`",
        "-b --branch --revision": _REF,
        "-n --no-checkout --bare --naked --mirror --sparse --ref-format": _SHAPE,
        "-h --help --help-all": _HELP,
    },
)

GIT_FETCH: Final[Verb] = make_verb(
    "git fetch",
    allow=(
        *_DOWNLOAD,
        valued("--deepen", _DEPTH),
        dropped("--filter", "the repository keeps the filter that it was cloned with", _FILTER),
        switch("--refetch"),
        switch("--update-shallow"),
        switch("--atomic"),
        switch("-t --tags"),
        switch("--no-tags"),
        switch("-k --keep"),
        switch("--auto-maintenance"),
        switch("--no-auto-maintenance"),
        switch("--auto-gc"),
        switch("--no-auto-gc"),
        switch("--show-forced-updates"),
        switch("--no-show-forced-updates"),
        switch("--write-commit-graph"),
        switch("--no-write-commit-graph"),
    ),
    deny={
        "--upload-pack": _EXECUTES,
        "-f --force -u --update-head-ok": _FORCE,
        "--recurse-submodules --recurse-submodules-default --submodule-prefix": _SUBMODULES,
        "--all -m --multiple": _REMOTE,
        "-a --append --write-fetch-head --no-write-fetch-head": _FETCH_HEAD,
        "--set-upstream": _UPSTREAM,
        "-p --prune -P --prune-tags": _DELETES,
        "--prefetch --refmap --stdin --negotiation-tip --negotiate-only": _REFSPEC,
        "-n -o": "it means another thing to `git clone`: write `--no-tags` or `--server-option`",
        "--porcelain": "the transfer reads the tool's output",
        "--unshallow": "it fails on a repository that is whole already: write `--depth 2147483647`",
        "--dry-run": _DRY_RUN,
        "-h --help --help-all": _HELP,
    },
)

GIT_PUSH: Final[Verb] = make_verb(
    "git push",
    allow=(
        *_COMMON,
        switch("--porcelain"),
        switch("--atomic"),
        switch("--no-atomic"),
        switch("--thin"),
        switch("--no-thin"),
        switch("--tags"),
        switch("--follow-tags"),
        switch("--no-follow-tags"),
        switch("--no-verify"),
        valued("-o --push-option", TEXT),
    ),
    deny={
        "--receive-pack --exec": _EXECUTES,
        "--signed": "signing runs gpg, and the attempt has no key",
        "--repo": _REMOTE,
        "--all --branches --mirror": "the transfer pushes the current branch only",
        "-d --delete --prune": _DELETES,
        "-f --force --force-with-lease --force-if-includes": _FORCE,
        "--recurse-submodules": _SUBMODULES,
        "-u --set-upstream": _UPSTREAM,
        "-n --dry-run": _DRY_RUN,
        "-h --help --help-all": _HELP,
    },
)
