"""What is in the store: listing, one object's head, the bucket's check, and which objects a `s3-uri` means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from datacube_flows.api.reasons import Reason
from datacube_flows.errors import TransferError
from datacube_flows.transfers.s3_errors import NotS3, explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from datacube_flows.transfers.s3_client import S3Client

PAGE = 1000
_NOT_FOUND, _FORBIDDEN = 404, 403


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object as the store listed it.

    Attributes:
        name: where it goes below the folder, `/` as separator.
        etag: with its quotes, as the store writes it.
        mtime: seconds since the epoch.
    """

    key: str
    name: str
    size: int
    etag: str
    mtime: float


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """What a `s3-uri` means: one object, or all below a prefix. `folders` are the names of empty folder markers."""

    objects: tuple[RemoteObject, ...]
    folders: tuple[str, ...] = ()
    is_single: bool = False


async def list_objects(client: S3Client, prefix: str, *, limit: int | None = None) -> AsyncIterator[RemoteObject]:
    """Yields all objects whose key begins with `prefix`, their names without it, in the order of their keys."""
    token: dict[str, str] = {}
    bucket = client.target.uri.bucket
    left = limit
    while True:
        request = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": min(PAGE, left or PAGE), **token}
        page = await client.call(f"s3://{bucket}/{prefix} cannot be listed", lambda r=request: _page(client, r))  # type: ignore[misc]
        for item in page.get("Contents", ()):
            yield _remote(item, prefix)
        if left is not None:
            left -= len(page.get("Contents", ()))
        if not page["IsTruncated"] or left == 0:
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


async def _page(client: S3Client, request: dict[str, Any]) -> dict[str, Any]:
    page: dict[str, Any] = await client.api.list_objects_v2(**request)
    if "IsTruncated" not in page:
        raise NotS3("the answer to a listing is not S3's (a login page?): check option 's3-endpoint'")
    return page


def _remote(item: dict[str, Any], prefix: str) -> RemoteObject:
    key = item["Key"]
    return RemoteObject(key, key[len(prefix) :], item["Size"], item.get("ETag", ""), item["LastModified"].timestamp())


async def head(client: S3Client, key: str, *, name: str) -> RemoteObject | None:
    """Returns the object with exactly this key, or None.

    Raises:
        TransferError: AccessDenied and others; a HEAD has no body, so the store's own word is not known.
    """
    answer = await head_answer(client, key)
    if answer is None:
        return None
    if "ETag" not in answer:
        raise TransferError(Reason.SERVER_ERROR, "the answer is not S3's (a login page?): check option 's3-endpoint'")
    return RemoteObject(key, name, answer["ContentLength"], answer["ETag"], answer["LastModified"].timestamp())


async def head_answer(client: S3Client, key: str, **more: Any) -> dict[str, Any] | None:
    """Returns what HEAD says of an object, or None where there is none."""
    uri = client.target.uri

    async def once() -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = await client.api.head_object(Bucket=uri.bucket, Key=key, **more)
            return answer
        except ClientError as error:
            if explain(error).status == _NOT_FOUND:
                return None
            raise

    return await client.call(f"s3://{uri.bucket}/{key} cannot be looked at", once)


async def check_bucket(client: S3Client) -> None:
    """Makes sure that the bucket is there.

    Raises:
        TransferError: NotFound; AccessDenied where these keys may not ask, with the option that skips the question.
    """
    bucket = client.target.uri.bucket

    async def once() -> None:
        try:
            await client.api.head_bucket(Bucket=bucket)
        except ClientError as error:
            if explain(error).status == _NOT_FOUND:
                raise _no_bucket(bucket) from error
            if explain(error).status == _FORBIDDEN:
                raise TransferError(
                    Reason.ACCESS_DENIED,
                    f"bucket '{bucket}' may not be looked at with these keys: check them; where they may only write,"
                    " set option 's3-no-check-bucket' to \"true\"",
                ) from error
            raise

    await client.call(f"bucket '{bucket}' cannot be looked at", once)


def _no_bucket(bucket: str) -> TransferError:
    return TransferError(Reason.NOT_FOUND, f"there is no bucket '{bucket}': check option 's3-uri', or create it")


async def find_source(client: S3Client, *, sync: bool) -> RemoteTree:
    """Returns the objects that the target's uri means.

    With a trailing `/`, or without a key, that is the prefix. Else it is the object of that key if there is one, and
    all below `key/` if not; where both exist the object wins, and a notice says so.

    Raises:
        TransferError: NotFound where there is nothing of that name, SourceEmpty where it is there and empty, and
            always with `sync`, which would delete everything.
    """
    uri = client.target.uri
    if uri.is_folder:
        return _checked(client, await _list_tree(client), sync=sync)
    found = await asyncio.gather(head(client, uri.key, name=uri.name), _first_below(client), return_exceptions=True)
    single, below = found
    if isinstance(single, RemoteObject):
        if below is True:
            client.attempt.progress.notice(
                f"{uri} is an object and a prefix: the object was taken; a trailing '/' takes what is below the prefix"
            )
        return RemoteTree((single,), is_single=True)
    for failed in (below, single):
        if isinstance(failed, BaseException) and not (failed is single and below is True):
            raise failed
    return _checked(client, await _list_tree(client), sync=sync)


async def _first_below(client: S3Client) -> bool:
    async for _ in list_objects(client, client.target.uri.prefix, limit=1):
        return True
    return False


async def _list_tree(client: S3Client) -> RemoteTree:
    objects, folders = [], []
    async for item in list_objects(client, client.target.uri.prefix):
        if item.size == 0 and (not item.name or item.name.endswith("/")):
            folders.append(item.name.rstrip("/"))
        else:
            objects.append(item)
    return RemoteTree(tuple(objects), tuple(folders))


def _checked(client: S3Client, tree: RemoteTree, *, sync: bool) -> RemoteTree:
    if tree.objects:
        return tree
    uri = client.target.uri
    if sync:
        raise TransferError(
            Reason.SOURCE_EMPTY,
            f"there is nothing below {uri}, and a sync would delete everything: nothing was done. Check 's3-uri'",
        )
    if tree.folders or not uri.key:
        raise TransferError(Reason.SOURCE_EMPTY, f"there are no objects below {uri}: check option 's3-uri'")
    raise TransferError(Reason.NOT_FOUND, f"there is no object {uri} and nothing below it: check option 's3-uri'")
