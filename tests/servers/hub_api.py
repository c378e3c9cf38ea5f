"""The local hub's API: who am I, repositories, trees, refs, and commits, as `huggingface_hub` 2.4 asks for them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

import yaml

from tests.servers.hub_http import Answer, Call, HubError, route
from tests.servers.hub_store import Commit, Entry, Repository, is_lfs

if TYPE_CHECKING:
    from tests.servers.hub import Hub

REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
REV = r"/(?P<revision>[^/]+)"
TYPES = {"models": "model", "datasets": "dataset", "spaces": "space", "": "model"}


def repository_of(hub: Hub, call: Call, kind: str, repo: str, *, content: bool = False) -> Repository:
    """Returns a repository that the request may see (its `content` too, which gating protects)."""
    user = hub.user_of(call.request)
    found = hub.store.repositories.get((TYPES[kind], repo))
    if found is None or (found.private and not _is_member(found, user)):
        raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
    if content and found.gated and not _is_member(found, user):
        message = f"Access to {found.type} {repo} is restricted and you are not in the authorized list."
        raise HubError(403 if user else 401, message, "GatedRepo")
    return found


def _is_member(repository: Repository, user: str) -> bool:
    return bool(user) and (user == repository.owner or user in repository.members or repository.owner == "team")


def commit_of(repository: Repository, revision: str) -> Commit:
    if (found := repository.commit_of(revision)) is None:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return found


def writable(hub: Hub, call: Call, kind: str, repo: str) -> Repository:
    found = repository_of(hub, call, kind, repo)
    if not call.request.token:
        raise HubError(401, "Invalid username or password.")
    if not hub.may_write(call.request, found.owner):
        raise HubError(403, "you must use a write token to upload to a repository")
    return found


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, call: Call) -> Answer:
    user = hub.user_of(call.request)
    if not user:
        raise HubError(401, "Invalid username or password.")
    return Answer.json({"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})


@route("GET", "/api/agent-harnesses")
def harnesses(_hub: Hub, _call: Call) -> Answer:
    return Answer.json({"standardEnvVars": [], "harnesses": {}})


@route("POST", "/api/validate-yaml")
def validate_yaml(_hub: Hub, call: Call) -> Answer:
    text = call.json()["content"]
    if not text.startswith("---\n"):
        return Answer.json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
    return Answer.json({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create(hub: Hub, call: Call) -> Answer:
    asked = call.json()
    user = hub.user_of(call.request)
    namespace = asked.get("organization") or user
    if not hub.may_write(call.request, namespace):
        raise HubError(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
    repo, kind = f"{namespace}/{asked['name']}", asked.get("type") or "model"
    path = ("" if kind == "model" else f"/{kind}s") + f"/{repo}"
    if hub.repository(repo, kind):
        return Answer.json(
            {"error": f"You already created this {kind} repo", "url": call.absolute(path)},
            status=409,
            headers={"X-Error-Message": "You already created this repo"},
        )
    hub.store.create(kind, repo, private=asked.get("visibility") == "private" or asked.get("private") is True)
    return Answer.json({"url": call.absolute(path), "name": repo, "id": repo})


@route("GET HEAD", REPO + r"(?:/revision" + REV + ")?")
def info(hub: Hub, call: Call, kind: str, repo: str, revision: str = "") -> Answer:
    if moved := hub.store.renamed.get((TYPES[kind], repo)):
        rest = call.request.path.partition(repo)[2]
        return Answer(307, b"", {"Location": f"/api/{kind}/{moved}{rest}"})
    repository = repository_of(hub, call, kind, repo)
    commit = commit_of(repository, revision or "main")
    blobs = call.request.query.get("blobs", "").lower() == "true"
    siblings = [{"rfilename": n} | (_blob(e) if blobs else {}) for n, e in sorted(commit.tree.items())]
    return Answer.json(
        {
            "_id": commit.id[:24],
            "id": repository.id,
            "modelId": repository.id,
            "author": repository.owner,
            "sha": commit.id,
            "lastModified": commit.date,
            "createdAt": commit.date,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
    )


def _blob(entry: Entry) -> dict[str, Any]:
    lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return {"blobId": entry.oid, "size": entry.size} | ({"lfs": lfs} if entry.lfs else {})


def _file(name: str, entry: Entry) -> dict[str, Any]:
    lfs = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return {"type": "file", "path": name, "oid": entry.oid, "size": entry.size} | ({"lfs": lfs} if entry.lfs else {})


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}


def folders_of(tree: Any) -> set[str]:
    return {"/".join(n.split("/")[:depth]) for n in tree for depth in range(1, len(n.split("/")))}


@route("GET", REPO + "/tree" + REV + r"(?:/(?P<path>.+))?")
def tree(hub: Hub, call: Call, *, kind: str, repo: str, revision: str, path: str = "") -> Answer:
    commit = commit_of(repository_of(hub, call, kind, repo), revision)
    prefix = path.strip("/") + "/" if path else ""
    entries = [(n, _file(n, e)) for n, e in commit.tree.items()] + [(n, _folder(n)) for n in folders_of(commit.tree)]
    below = sorted((item for item in entries if item[0].startswith(prefix)), key=lambda item: item[0])
    if path and not below:
        raise HubError(404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    query = call.request.query
    if query.get("recursive", "").lower() != "true":
        below = [item for item in below if "/" not in item[0][len(prefix) :]]
    start = int(query.get("cursor", "0"))
    page = below[start : start + hub.page_size]
    headers = {}
    if start + hub.page_size < len(below):
        kept = "&".join(f"{k}={quote(v)}" for k, v in query.items() if k != "cursor")
        following = call.absolute(f"{quote(call.request.path, safe='/%')}?{kept}&cursor={start + hub.page_size}")
        headers["Link"] = f'<{following}>; rel="next"'
    return Answer.json([entry for _name, entry in page], headers=headers)


@route("POST", REPO + "/paths-info" + REV)
def paths_info(hub: Hub, call: Call, kind: str, repo: str, revision: str) -> Answer:
    commit = commit_of(repository_of(hub, call, kind, repo), revision)
    if "json" in call.request.headers.get("content-type", ""):
        asked = call.json()["paths"]
    else:
        asked = parse_qs(call.body().decode()).get("paths", [])
    folders = folders_of(commit.tree)
    names = [n.strip("/") for n in asked]
    found = [_file(n, commit.tree[n]) for n in names if n in commit.tree]
    return Answer.json(found + [_folder(n) for n in names if n in folders])


@route("GET", REPO + "/refs")
def refs(hub: Hub, call: Call, kind: str, repo: str) -> Answer:
    repository = repository_of(hub, call, kind, repo)

    def listed(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{prefix}/{n}", "targetCommit": c} for n, c in names.items()]

    branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
    return Answer.json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("POST", REPO + "/branch/(?P<branch>[^/]+)")
def branch_made(hub: Hub, call: Call, kind: str, repo: str, branch: str) -> Answer:
    repository = writable(hub, call, kind, repo)
    if branch in repository.branches:
        raise HubError(409, "Reference already exists")
    repository.branches[branch] = commit_of(repository, call.json().get("startingPoint") or "main").id
    return Answer.json({})


@route("POST", REPO + "/preupload" + REV)
def preupload(hub: Hub, call: Call, kind: str, repo: str, revision: str) -> Answer:
    repository = writable(hub, call, kind, repo)
    commit = commit_of(repository, revision)
    asked = call.json()
    ignored = _ignored(hub, commit, asked.get("gitIgnore"))
    files = [
        {
            "path": f["path"],
            "uploadMode": "lfs" if is_lfs(f["path"], f["size"]) else "regular",
            "shouldIgnore": f["path"] in ignored,
            "oid": commit.tree[f["path"]].etag if f["path"] in commit.tree else None,
        }
        for f in asked["files"]
    ]
    return Answer.json({"files": files, "commitOid": commit.id})


def _ignored(hub: Hub, commit: Commit, sent: str | None) -> set[str]:
    """The names in a `.gitignore` (plain names only, which is all that the tests need)."""
    if sent is None and ".gitignore" in commit.tree:
        sent = hub.store.blob(commit.tree[".gitignore"].sha256).read_text()
    return set((sent or "").split())


@route("POST", REPO + "/commit" + REV)
def commit(hub: Hub, call: Call, kind: str, repo: str, revision: str) -> Answer:
    repository = writable(hub, call, kind, repo)
    lines = [json.loads(line) for line in call.body().splitlines() if line.strip()]
    with hub.store.lock:
        if revision not in repository.branches:
            commit_of(repository, revision)
            raise HubError(400, f"{revision} is not a branch")
        header = lines[0]["value"]
        head = repository.branches[revision]
        if header.get("parentCommit") not in (None, head):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        changed = dict(repository.commits[head].tree)
        for line in lines[1:]:
            _apply(hub, changed, line["key"], line["value"])
        made = hub.store.commit(repository, revision, changed, header["summary"])
    url = call.absolute(("" if kind == "models" else f"/{kind}") + f"/{repo}/commit/{made.id}")
    return Answer.json({"success": True, "commitUrl": url, "commitOid": made.id, "hookOutput": ""})


def _apply(hub: Hub, tree: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
    path = value["path"]
    if any(part in ("", ".", "..", ".git") for part in path.rstrip("/").split("/")):
        raise HubError(400, f"invalid path: {path}")
    if key == "file":
        tree[path] = hub.store.add_bytes(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not hub.store.has_blob(value["oid"]):
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['oid']}")
        tree[path] = hub.store.lfs_entry(value["oid"], hub.store.blob(value["oid"]).stat().st_size)
    else:
        for name in [n for n in tree if n == path or n.startswith(path.rstrip("/") + "/")]:
            del tree[name]
