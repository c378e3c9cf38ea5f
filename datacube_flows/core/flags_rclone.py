"""Which arguments of `rclone copy` and `rclone sync` a document may give, and why not the others (SECURITY 2.4).

Every flag that the tool prints is in here, or falls under a family; a test reads the tool's help and fails on one that
does not. Caps bound what one attempt may take (S27); the pod's limits bound it again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from datacube_flows.core.flags import (
    AGE,
    DURATION,
    TEXT,
    TRISTATE,
    WORD,
    Effect,
    Flag,
    Verb,
    decimal,
    make_verb,
    matching,
    one_of,
    or_off,
    size,
    toggle,
    valued,
    whole,
)

_BANDWIDTH: Final = matching(r"[0-9A-Za-z:.,| -]{1,256}", "a rate such as 10M, or a timetable", "10M")
_ORDER: Final = matching(
    r"(name|size|modtime)(,(asc|ascending|desc|descending|mixed(,[0-9]{1,2})?))?",
    "`name`, `size` or `modtime`, and a direction",
    "size,descending",
)
_DSCP: Final = matching(r"[A-Z]{2}[0-9]{0,2}|[0-9]{1,2}", "a DSCP name such as AF21", "AF21")
_PART: Final = matching(r"[0-9]{1,6}/[0-9]{1,6}", "a part such as 1/3", "1/3")
_DATE: Final = matching(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "a time in UTC", "2030-01-01T00:00:00Z"
)

_COPY: Final = (
    toggle("--check-first"),
    toggle("-c --checksum"),
    toggle("--size-only"),
    toggle("--immutable"),
    toggle("--create-empty-src-dirs"),
    toggle("--no-update-modtime"),
    toggle("--no-update-dir-modtime"),
    toggle("--refresh-times"),
    valued("--order-by", _ORDER),
    valued("--max-backlog", whole(1, 1_000_000)),
    valued("--list-cutoff", whole(1, 10_000_000)),
    valued("--modify-window", DURATION),
    valued("--multi-thread-chunk-size", size("512M")),
    valued("--multi-thread-cutoff", size("1024G")),
    valued("--multi-thread-streams", whole(0, 64)),
    valued("--multi-thread-write-buffer-size", size("64M")),
    valued("--streaming-upload-cutoff", size("64M")),
)
_TUNING: Final = (
    valued("--transfers", whole(1, 128)),
    valued("--checkers", whole(1, 256)),
    valued("--buffer-size", size("256M")),
    valued("--max-buffer-memory", size("64G")),
    valued("--bwlimit", _BANDWIDTH),
    valued("--bwlimit-file", _BANDWIDTH),
    valued("--tpslimit", decimal(10_000)),
    valued("--tpslimit-burst", whole(1, 10_000)),
    valued("--max-connections", whole(0, 1024)),
    valued("--contimeout", DURATION),
    valued("--timeout", DURATION),
    valued("--expect-continue-timeout", DURATION),
    valued("--low-level-retries", whole(1, 100)),
    valued("--retries", whole(1, 10)),
    valued("--retries-sleep", DURATION),
    valued("--dscp", _DSCP),
    valued("--user-agent", TEXT),
    toggle("--disable-http-keep-alives"),
    toggle("--disable-http2"),
    toggle("--no-gzip-encoding"),
    toggle("--no-unicode-normalization"),
    toggle("--use-mmap"),
    toggle("--use-server-modtime"),
    toggle("--fast-list"),
    toggle("--local-fatal-if-no-space"),
    toggle("--local-no-preallocate"),
    toggle("--local-no-set-modtime"),
    toggle("--local-no-sparse"),
)
_FILTER: Final = (
    valued("--include", TEXT),
    valued("--exclude", TEXT),
    valued("-f --filter", TEXT),
    valued("--exclude-if-present", TEXT),
    valued("--hash-filter", _PART),
    valued("--max-age", AGE),
    valued("--min-age", AGE),
    valued("--max-depth", whole(1, 1000)),
    valued("--max-size", or_off(size("1024T"))),
    valued("--min-size", or_off(size("1024T"))),
)
_S3: Final = (
    valued("--s3-acl", WORD),
    valued("--s3-chunk-size", size("512M")),
    valued("--s3-copy-cutoff", size("5G")),
    valued("--s3-list-chunk", whole(1, 1000)),
    valued("--s3-list-version", one_of("0", "1", "2")),
    valued("--s3-max-upload-parts", whole(1, 10_000)),
    valued("--s3-object-lock-legal-hold-status", one_of("ON", "OFF")),
    valued("--s3-object-lock-mode", one_of("GOVERNANCE", "COMPLIANCE")),
    valued("--s3-object-lock-retain-until-date", _DATE),
    valued("--s3-provider", WORD),
    valued("--s3-region", WORD),
    valued("--s3-server-side-encryption", one_of("AES256", "aws:kms", "aws:kms:dsse")),
    valued("--s3-sse-kms-key-id", WORD),
    valued("--s3-storage-class", WORD),
    valued("--s3-upload-concurrency", whole(1, 64)),
    valued("--s3-upload-cutoff", size("5G")),
    toggle("--s3-directory-bucket"),
    toggle("--s3-disable-http2"),
    toggle("--s3-force-path-style"),
    toggle("--s3-no-check-bucket"),
    toggle("--s3-no-head-object"),
    toggle("--s3-no-system-metadata"),
    toggle("--s3-object-lock-set-after-upload"),
    toggle("--s3-requester-pays"),
    toggle("--s3-use-accelerate-endpoint"),
    toggle("--s3-use-arn-region"),
    toggle("--s3-use-dual-stack"),
    toggle("--s3-use-presigned-request"),
    toggle("--s3-v2-auth"),
    *(
        valued(f"--s3-{name}", TRISTATE)
        for name in (
            "list-url-encode",
            "list-versions-oldest-first",
            "might-gzip",
            "object-lock-supported",
            "sign-accept-encoding",
            "use-accept-encoding-gzip",
            "use-already-exists",
            "use-data-integrity-protections",
            "use-multipart-etag",
            "use-multipart-uploads",
            "use-unsigned-payload",
            "use-x-id",
        )
    ),
)
_ALLOW: Final[tuple[Flag, ...]] = (*_COPY, *_TUNING, *_FILTER, *_S3)

_EXECUTES: Final = "it names a program to run"
_FILES: Final = "it reads or writes a file that is not part of the transfer"
_NETWORK: Final = "it opens or redirects a connection: addresses come from the options and from executor.env"
_IN_ARGV: Final = "a credential in argv is seen by every process: use the options"
_IDENTITY: Final = "the identity is the options' keys or the pod's own service account"
_LEAK: Final = "it prints what credentials are sent with"
_LOG: Final = "the transfer reads the tool's log and shows progress itself"
_REPORTS: Final = "it writes a list of files, and the report of the transfer is DataCube's own"
_DATA: Final = "the result would not be what the source holds, and is verified to be that"
_INTEGRITY: Final = "it switches off a check of what was moved"
_NAMES: Final = "names of files are kept as they are"
_LINKS: Final = "links and special files are skipped and counted: they can lead out of the volume"
_DELETES: Final = "what a sync deletes, and when, is decided by executor.options.sync and maxDelete"
_PARTIAL: Final = "a part of the data is not a success: use executor.options.activeDeadlineSeconds"
_METADATA: Final = "owner, mode and attributes are not taken from, nor given to, a store"
_VERSIONS: Final = "the transfer lists, moves and verifies the present version of each object"
_BUCKETS: Final = "buckets are not created"
_ASKS: Final = "nobody can answer a question in an attempt"
_INERT: Final = "it has no effect in a single run"
_TRUST: Final = "trust is set by whoever runs the installation (caBundle)"
_HELP: Final = "the tool would print its help and move nothing"

_DENY: Final = {
    "--metadata-mapper --password-command --name-transform": _EXECUTES,
    "--config --temp-dir --cache-dir --log-file --cpuprofile --memprofile": _FILES,
    "--exclude-from --files-from --files-from-raw --files-from0 --filter-from --include-from": _FILES,
    "--backup-dir --compare-dest --copy-dest": _FILES,
    "--bind --http-proxy --s3-endpoint --s3-download-url --server-side-across-configs": _NETWORK,
    "--header --header-download --header-upload --use-cookies": _IN_ARGV,
    "--no-check-certificate --ca-cert --client-cert --client-key --client-pass": _TRUST,
    "--s3-access-key-id --s3-secret-access-key --s3-session-token": _IN_ARGV,
    "--s3-sse-customer-algorithm --s3-sse-customer-key --s3-sse-customer-key-base64": _IN_ARGV,
    "--s3-sse-customer-key-md5 --s3-ibm-api-key": _IN_ARGV,
    "--s3-env-auth --s3-profile --s3-shared-credentials-file --s3-ibm-iam-endpoint": _IDENTITY,
    "--s3-ibm-resource-instance-id": _IDENTITY,
    "--s3-role-arn --s3-role-external-id --s3-role-session-duration --s3-role-session-name": _IDENTITY,
    "--dump --dump-bodies --dump-headers --s3-sdk-log-mode": _LEAK,
    "-v --verbose -q --quiet -P --progress --progress-terminal-title --color --human-readable --use-json-log": _LOG,
    "--stats --syslog --syslog-facility --max-stats-groups --error-on-no-transfer": _LOG,
    "--absolute --combined --csv --dest-after --differ -d --dir-slash --dirs-only --error --files-only": _REPORTS,
    "-F --format --hash --match --missing-on-dst --missing-on-src -s --separator -t --timeformat": _REPORTS,
    "--inplace --partial-suffix": "unfinished files are kept out of place until they are whole",
    "-I --ignore-times": "use --checksum, which moves only what differs",
    "-u --update --s3-decompress --s3-directory-markers": _DATA,
    "--disable --s3-disable-checksum --s3-no-head --local-no-check-updated": _INTEGRITY,
    "--suffix --suffix-keep-extension --fix-case --s3-encoding --local-encoding": _NAMES,
    "-l --links -L --copy-links --skip-links --local-links --local-zero-size-links": _LINKS,
    "--skip-specials -x --one-file-system": _LINKS,
    "--max-delete --max-delete-size --track-renames --track-renames-strategy": _DELETES,
    "--max-transfer --max-duration --cutoff-mode": _PARTIAL,
    "-M --metadata": _METADATA,
    "--s3-versions --s3-version-at --s3-version-deleted": _VERSIONS,
    "--s3-bucket-acl --s3-bucket-object-lock-enabled --s3-location-constraint": _BUCKETS,
    "--s3-bypass-governance-retention": "locked objects stay as they are",
    "--s3-leave-parts-on-error": "parts of a failed upload are removed",
    "-n --dry-run": "use executor.options.dryRun",
    "-i --interactive --ask-password --auto-confirm": _ASKS,
    "--default-time --fs-cache-expire-duration --fs-cache-expire-interval --kv-lock-time --no-console": _INERT,
    "--s3-description": _INERT,
    "-h --help -V --version": _HELP,
}
_OTHER_STORES: Final = (
    "--alias- --archive- --azureblob- --azurefiles- --b2- --box- --cache- --chunker- --cloudinary- "
    "--combine- --compress- --crypt- --doi- --drime- --drive- --dropbox- --fichier- --filefabric- "
    "--filelu- --filen- --filescom- --ftp- --gcs- --gofile- --gphotos- --hasher- --hdfs- --hidrive- "
    "--http- --huaweidrive- --iclouddrive- --imagekit- --internetarchive- --internxt- --jottacloud- "
    "--koofr- --linkbox- --mailru- --mega- --memory- --netstorage- --onedrive- --oos- --opendrive- "
    "--pcloud- --pikpak- --pixeldrain- --premiumizeme- --protondrive- --putio- --qingstor- --quatrix- "
    "--seafile- --sftp- --shade- --sharefile- --sia- --smb- --storj- --sugarsync- --swift- --tardigrade- "
    "--ulozto- --union- --webdav- --yandex- --zoho-"
)
_FAMILIES: Final = {
    "--rc": "it starts a server that takes commands",
    "--metrics-": "it starts a server",
    "--log-": _LOG,
    "--stats-": _LOG,
    "--ignore-": _DATA,
    "--delete-": _DELETES,
    "--metadata-": _METADATA,
    "--local-": "files of the volume are read and written as they are",
    _OTHER_STORES: "it is for another store than S3",
}
_COPY_ONLY: Final = (toggle("--no-traverse"), toggle("--no-check-dest"))
_NOT_IN_SYNC: Final = tuple(
    replace(flag, effect=Effect.DROP, note="a sync has to see the destination") for flag in _COPY_ONLY
)

RCLONE_COPY: Final[Verb] = make_verb("rclone copy", allow=(*_ALLOW, *_COPY_ONLY), deny=_DENY, families=_FAMILIES)
RCLONE_SYNC: Final[Verb] = make_verb("rclone sync", allow=(*_ALLOW, *_NOT_IN_SYNC), deny=_DENY, families=_FAMILIES)
