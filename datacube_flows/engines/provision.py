"""The step that makes a claim unless it exists: a program of its own in a pod, with the standard library alone.

It is what a workflow runs before the transfer where the document has `pvc.template`. An existing claim is never
touched. The account needs `persistentvolumeclaims: get, create` in its namespace. Exit codes are those of
`core/retry.py`; what happened goes to the log and to the termination message.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datacube_flows.core.manifests import REPORT_FILE
from datacube_flows.core.retry import EXIT_OK, EXIT_PERMANENT, EXIT_RETRYABLE

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS: Final = 30.0
MAX_MESSAGE: Final = 1024

REFUSED: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}
)
"""Answers that asking again does not change; but a quota, which is a `Forbidden` too, may be free again by then."""


class ClaimRefused(Exception):
    """The API server does not make the claim.

    Attributes:
        code: the exit code that says whether another try may succeed.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ClaimsApi:
    """Claims as the API server keeps them.

    Attributes:
        connect: opens a connection to the API server.
        token: of the account that asks.
    """

    connect: Callable[[], http.client.HTTPConnection]
    token: str

    def ensure(self, claim: dict[str, Any]) -> str:
        """Has the claim, and says what was done.

        It is looked for first: where a quota is used up, making one is refused also when it is there already.

        Raises:
            ClaimRefused: the API server said neither that it exists nor that it made it.
        """
        name = claim["metadata"]["name"]
        collection = f"/api/v1/namespaces/{claim['metadata']['namespace']}/persistentvolumeclaims"
        status, _ = self._ask("GET", f"{collection}/{name}")
        if status == HTTPStatus.OK:
            return f"claim '{name}' exists"
        status, said = self._ask("POST", collection, json.dumps(claim))
        if status == HTTPStatus.CREATED:
            return f"made claim '{name}'"
        if status == HTTPStatus.CONFLICT:
            return f"claim '{name}' exists: somebody else made it just now"
        is_permanent = status in REFUSED and "exceeded quota" not in said
        raise ClaimRefused(
            f"claim '{name}' was not made: {said or HTTPStatus(status).phrase}",
            EXIT_PERMANENT if is_permanent else EXIT_RETRYABLE,
        )

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Returns the answer's status, and its message where it is one of Kubernetes' own."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        connection = self.connect()
        try:
            connection.request(method, path, body, headers | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, _message(answer.read())
        finally:
            connection.close()


def main(arguments: list[str]) -> int:
    """Has the claim whose JSON is the only argument, and returns the exit code."""
    try:
        said, code = own_cluster().ensure(json.loads(arguments[0])), EXIT_OK
    except ClaimRefused as error:
        said, code = str(error), error.code
    except (OSError, http.client.HTTPException) as error:
        said, code = f"the API server cannot be asked: {error}", EXIT_RETRYABLE
    print(said)  # noqa: T201 - the pod's log
    Path(REPORT_FILE).write_text(said[:MAX_MESSAGE])
    return code


def own_cluster() -> ClaimsApi:
    """Returns the claims of the cluster that this pod runs in; no proxy is asked."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    return ClaimsApi(
        connect=lambda: http.client.HTTPSConnection(host, port, timeout=SECONDS, context=trust),
        token=(ACCOUNT / "token").read_text(),
    )


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
