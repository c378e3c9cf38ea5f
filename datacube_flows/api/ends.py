"""What an end of a transfer may be. Stdlib only: the attempt's process reads it and must start fast."""

from enum import StrEnum


class EndType(StrEnum):
    """What one end of a transfer is. A fourth store begins with a member here."""

    PVC = "pvc"
    GIT = "git"
    HUGGINGFACE = "huggingface"
    S3 = "s3"
