"""The only door to `huggingface_hub`: sets what it reads from the environment on import, then imports it.

It reads its settings once and from nowhere else. HOME is the attempt's scratch folder, so its caches end there.
"""

from __future__ import annotations

import os
from typing import Final

SETTINGS: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_XET": "1",  # every byte goes through our own verification, proxy and limits, over plain HTTP
    "HF_HUB_VERBOSITY": "error",
}
os.environ.update(SETTINGS)

import httpx2  # noqa: E402
from huggingface_hub import (  # noqa: E402
    CommitOperationAdd,
    HfApi,
    errors,
    get_session,
    hf_hub_url,
    set_client_factory,
)
from huggingface_hub.constants import _HF_DEFAULT_ENDPOINT as OFFICIAL  # noqa: E402
from huggingface_hub.hf_api import RepoFile, RepoFolder  # noqa: E402
from huggingface_hub.lfs import UploadInfo  # noqa: E402
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # noqa: E402 - it exports lazily
    build_hf_headers,
    filter_repo_objects,
    hf_raise_for_status,
    parse_ratelimit_headers,
    validate_repo_id,
)
from huggingface_hub.utils._http import default_client_factory  # noqa: E402

__all__ = [
    "OFFICIAL",
    "SETTINGS",
    "CommitOperationAdd",
    "HfApi",
    "RepoFile",
    "RepoFolder",
    "UploadInfo",
    "build_hf_headers",
    "default_client_factory",
    "errors",
    "filter_repo_objects",
    "get_session",
    "hf_hub_url",
    "hf_raise_for_status",
    "httpx2",
    "parse_ratelimit_headers",
    "set_client_factory",
    "validate_repo_id",
]
