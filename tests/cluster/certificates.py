"""The cluster's authority and what it signs, made by openssl: every connection is mutual TLS, on loopback too.

Each party has a key and a certificate of its own; the authority's key never leaves the state folder.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.places import write_changed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAYS = "365"
CURVE = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
LOCAL_NAMES = ("DNS:localhost", "IP:127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; makes itself when it is first used, and keeps what it made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        if not self.pair.certificate.exists():
            self._make_itself()

    def issue(self, name: str, *, user: str, group: str = "", names: Sequence[str] = ()) -> Pair:
        """Returns the pair of this name: of a client (`user` in `group`), and of a server where `names` are given."""
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if not pair.certificate.exists():
            _make_key(pair.key)
            self._sign(pair, f"/O={group}/CN={user}" if group else f"/CN={user}", names)
        return pair

    def kubeconfig(self, file: Path, server: str, pair: Pair) -> Path:
        """Writes what a client needs to reach the server as the pair's user; the file stands on its own."""
        cluster = {"server": server, "certificate-authority-data": _encoded(self.pair.certificate)}
        user = {"client-certificate-data": _encoded(pair.certificate), "client-key-data": _encoded(pair.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "datacube", "cluster": cluster}],
            "users": [{"name": pair.certificate.stem, "user": user}],
            "contexts": [{"name": "datacube", "context": {"cluster": "datacube", "user": pair.certificate.stem}}],
            "current-context": "datacube",
        }
        return write_changed(file, json.dumps(config, indent=1))

    def token_keys(self) -> Pair:
        """The pair that signs service account tokens: a public key in place of a certificate."""
        pair = Pair(self.folder / "tokens.pub", self.folder / "tokens.key")
        if not pair.certificate.exists():
            _make_key(pair.key)
            _openssl("pkey", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
        return pair

    def _make_itself(self) -> None:
        part = self.pair.certificate.with_suffix(".part")
        _make_key(self.pair.key)
        extensions = ["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]
        request = ["-x509", "-new", "-key", str(self.pair.key), "-subj", "/CN=datacube-cluster", "-days", DAYS]
        _openssl("req", *request, *extensions, "-out", str(part))
        part.rename(self.pair.certificate)

    def _sign(self, pair: Pair, subject: str, names: Sequence[str]) -> None:
        """Signs; the certificate appears whole, so that an interrupted start leaves none that is half written."""
        request, extensions = pair.key.with_suffix(".csr"), pair.key.with_suffix(".ext")
        part = pair.certificate.with_suffix(".part")
        extensions.write_text(_extensions(names))
        _openssl("req", "-new", "-key", str(pair.key), "-subj", subject, "-out", str(request))
        authority = ["-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key), "-CAcreateserial"]
        signing = ["-in", str(request), "-extfile", str(extensions), "-days", DAYS, "-out", str(part)]
        _openssl("x509", "-req", *authority, *signing)
        request.unlink()
        extensions.unlink()
        part.rename(pair.certificate)


def _extensions(names: Sequence[str]) -> str:
    usage = "clientAuth" + (",serverAuth" if names else "")
    lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
    return "\n".join([*lines, *([f"subjectAltName={','.join(names)}"] if names else [])]) + "\n"


def _make_key(file: Path) -> None:
    file.touch(mode=0o600)
    _openssl("genpkey", *CURVE, "-out", str(file))


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
