"""The local hub's content: `resolve` with its redirect to the CDN, and LFS uploads, basic and in parts."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from tests.servers.hub_api import TYPES, commit_of, repository_of, writable
from tests.servers.hub_http import Answer, Call, HubError, route

if TYPE_CHECKING:
    from tests.servers.hub import Hub
    from tests.servers.hub_store import Entry

NAME = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)"
_KEY = b"the hub's own key"


def _sign(text: str) -> str:
    return hmac.new(_KEY, text.encode(), "sha256").hexdigest()[:32]


@route("GET HEAD", NAME + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(hub: Hub, call: Call, *, kind: str, repo: str, revision: str, path: str) -> Answer:
    if moved := hub.store.renamed.get((TYPES[kind], repo)):
        return Answer(307, b"", {"Location": call.request.path.replace(repo, moved, 1)})
    repository = repository_of(hub, call, kind, repo, content=True)
    commit = commit_of(repository, revision)
    if path not in commit.tree:
        error = HubError(404, "Entry not found", "EntryNotFound").answer()
        error.headers["X-Repo-Commit"] = commit.id
        return error
    entry = commit.tree[path]
    if not entry.lfs:
        return Answer(file=hub.store.blob(entry.sha256), headers=_headers(entry, commit.id))
    headers = {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"', "X-Repo-Commit": commit.id}
    target = f"/_cdn/{commit.id}/{entry.sha256}?sig={_sign(entry.sha256)}"
    base = hub.cdn.url if hub.cdn_elsewhere else call.absolute("")
    return Answer(302, b"Found. Redirecting", headers | {"Location": base + target, "ETag": f'"{entry.oid}"'})


def _headers(entry: Entry, commit: str) -> dict[str, str]:
    return {"ETag": f'"{entry.etag}"', "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}


@route("GET HEAD", r"/_cdn/(?P<commit>[0-9a-f]+)/(?P<sha256>[0-9a-f]{64})")
def cdn(hub: Hub, call: Call, commit: str, sha256: str) -> Answer:
    if call.request.port == hub.cdn.server_port and "authorization" in call.request.headers:
        raise HubError(400, "only one way to authenticate is allowed: the URL is signed already")
    if call.request.query.get("sig") != _sign(sha256):
        raise HubError(403, "the signature is wrong")
    headers = {"ETag": f'"{sha256}"', "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}
    return Answer(file=hub.store.blob(sha256), headers=headers)


@route("POST", NAME + r"\.git/info/lfs/objects/batch")
def batch(hub: Hub, call: Call, kind: str, repo: str) -> Answer:
    writable(hub, call, kind or "models", repo)
    asked = call.json()
    in_parts = "multipart" in asked.get("transfers", [])
    objects = [_object(hub, call, o["oid"], o["size"], in_parts=in_parts) for o in asked["objects"]]
    used = "multipart" if any("chunk_size" in str(o) for o in objects) else "basic"
    return Answer.json({"transfer": used, "objects": objects})


def _object(hub: Hub, call: Call, oid: str, size: int, *, in_parts: bool) -> dict[str, Any]:
    described = {"oid": oid, "size": size, "authenticated": True}
    if hub.store.has_blob(oid):
        return described
    verify = {"href": call.absolute("/_lfs/verify")}
    if not in_parts or size <= hub.part_size:
        upload: dict[str, Any] = {"href": call.absolute(f"/_lfs/object/{oid}?sig={_sign(oid)}")}
        return described | {"actions": {"upload": upload, "verify": verify}}
    count = -(-size // hub.part_size)
    width = len(str(count))
    header = {
        str(n).zfill(width): call.absolute(f"/_lfs/part/{oid}/{n}?sig={_sign(f'{oid}/{n}')}")
        for n in range(1, count + 1)
    }
    upload = {"href": call.absolute(f"/_lfs/complete?sig={_sign(oid)}")}
    upload["header"] = header | {"chunk_size": str(hub.part_size)}
    return described | {"actions": {"upload": upload, "verify": verify}}


def _signed(call: Call, text: str) -> None:
    if call.request.query.get("sig") != _sign(text):
        raise HubError(403, "the signature is wrong")


@route("PUT", r"/_lfs/object/(?P<oid>[0-9a-f]{64})")
def put_object(hub: Hub, call: Call, oid: str) -> Answer:
    _signed(call, oid)
    part, digest = hub.store.temporary(), hashlib.sha256()
    with part.open("wb") as stream:
        for piece in call.pieces():
            digest.update(piece)
            stream.write(piece)
    if digest.hexdigest() != oid:
        part.unlink()
        raise HubError(400, f"the content is not {oid}")
    part.replace(hub.store.blob(oid))
    return Answer(headers={"ETag": f'"{oid[:32]}"'})


@route("PUT", r"/_lfs/part/(?P<oid>[0-9a-f]{64})/(?P<number>\d+)")
def put_part(hub: Hub, call: Call, oid: str, number: str) -> Answer:
    _signed(call, f"{oid}/{number}")
    path = hub.store.blobs / f".part-{oid}-{number}"
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as stream:
        for piece in call.pieces():
            digest.update(piece)
            stream.write(piece)
    return Answer(headers={"ETag": f'"{digest.hexdigest()}"'})


@route("POST", r"/_lfs/complete")
def complete(hub: Hub, call: Call) -> Answer:
    asked = call.json()
    oid = asked["oid"]
    _signed(call, oid)
    whole, digest = hub.store.temporary(), hashlib.sha256()
    with whole.open("wb") as stream:
        for part in asked["parts"]:
            path = hub.store.blobs / f".part-{oid}-{part['partNumber']}"
            with path.open("rb") as source:
                while piece := source.read(1 << 20):
                    digest.update(piece)
                    stream.write(piece)
            path.unlink()
    if digest.hexdigest() != oid:
        whole.unlink()
        raise HubError(400, f"the content is not {oid}")
    whole.replace(hub.store.blob(oid))
    return Answer.json({"success": True})


@route("POST", r"/_lfs/verify")
def verify(hub: Hub, call: Call) -> Answer:
    asked = call.json()
    path = hub.store.blob(asked["oid"])
    if not path.exists() or path.stat().st_size != asked["size"]:
        raise HubError(404, "the object is not there")
    return Answer.json({})
