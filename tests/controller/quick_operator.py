"""Runs the operator with short pauses between attempts: `python -m tests.controller.quick_operator`."""

from datacube_operator.__main__ import main

from datacube_flows.core import retry

FIRST_SECONDS = 0.5

retry.BACKOFF_FIRST_SECONDS = FIRST_SECONDS

if __name__ == "__main__":
    main()
