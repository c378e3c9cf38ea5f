"""SeaweedFS as an object store on loopback: started in a folder, filled quickly, ended for sure.

Buckets are made per test; the store itself may be shared by many. It speaks to nobody outside this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import obstore
from botocore.config import Config
from obstore.store import S3Store

from tests.canary import CANARY
from tests.servers.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

READY_SECONDS = 60.0
LIMITED_BUCKET = "limited-bucket"
"""The only bucket that `ObjectStore.limited` may use; it need not exist."""

PUBLIC_BUCKET = "public-bucket"
"""The bucket that may be read without keys."""

_PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc")
_PORTS += ("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access_key: str
    secret_key: str

    def options(self) -> dict[str, str]:
        """As a document's options give them."""
        return {"s3-access-key-id": self.access_key, "s3-secret-access-key": self.secret_key}


ADMIN = Keys("ADMIN" + CANARY, "admin-secret/+" + CANARY)
READ_ONLY = Keys("READER" + CANARY, "reader-secret-" + CANARY)
LIMITED = Keys("LIMITED" + CANARY, "limited-secret-" + CANARY)


@dataclass
class ObjectStore:
    """A running store and a client of it with all rights."""

    url: str
    access_key: str = ADMIN.access_key
    secret_key: str = ADMIN.secret_key
    read_only: Keys = field(default=READ_ONLY)
    limited: Keys = field(default=LIMITED)
    log: Path = field(default=Path())

    def options(self, uri: str, *, url: str = "", keys: Keys = ADMIN) -> dict[str, str]:
        """Options of a document for `uri`; `url` puts a proxy in front of the store."""
        return {"s3-uri": uri, "s3-endpoint": url or self.url, **keys.options()}

    @cached_property
    def client(self) -> Any:
        """A botocore client, for what no other method offers."""
        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 2}),
        )

    def make_bucket(self, name: str) -> str:
        """Makes an empty bucket and returns its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Stores one object, under any key."""
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def put_many(self, bucket: str, contents: Mapping[str, bytes], *, concurrency: int = 16) -> None:
        """Stores many objects at once; keys must be plain ones."""
        store = self._obstore(bucket)

        async def one(key: str, content: bytes, gate: asyncio.Semaphore) -> None:
            async with gate:
                await obstore.put_async(store, key, content, use_multipart=False)

        async def all_of_them() -> None:
            gate = asyncio.Semaphore(concurrency)
            await asyncio.gather(*(one(k, c, gate) for k, c in contents.items()))

        asyncio.run(all_of_them())

    def put_parts(self, bucket: str, key: str, content: bytes, part_size: int) -> None:
        """Stores one object in parts, so that its ETag is no MD5 of its content."""
        upload = self.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        where = {"Bucket": bucket, "Key": key, "UploadId": upload}
        parts = []
        for number, start in enumerate(range(0, len(content), part_size), 1):
            answer = self.client.upload_part(**where, PartNumber=number, Body=content[start : start + part_size])
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def get(self, bucket: str, key: str) -> bytes:
        """The content of one object."""
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def delete(self, bucket: str, key: str) -> None:
        """Removes one object."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def list(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Key -> size of all objects below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def uploads(self, bucket: str) -> int:
        """How many multipart uploads are begun and not ended."""
        return len(self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    def close(self) -> None:
        """Closes the client's connections."""
        if "client" in self.__dict__:
            self.client.close()

    def _obstore(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True},
        )


@contextmanager
def start_object_store(folder: Path) -> Iterator[ObjectStore]:
    """Runs SeaweedFS with its data and its log `weed.log` in `folder`."""
    data, config = folder / "data", folder / "s3.json"
    data.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"identities": _identities()}))
    with (folder / "weed.log").open("wb") as log:
        process, port = _start(data, config, log)
        store = ObjectStore(f"http://127.0.0.1:{port}", log=folder / "weed.log")
        try:
            yield store
        finally:
            store.close()
            _end(process)


def _identities() -> list[dict[str, Any]]:
    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    return [
        _identity("admin", ADMIN, everything),
        _identity("reader", READ_ONLY, ["Read", "List"]),
        _identity("limited", LIMITED, [f"{action}:{LIMITED_BUCKET}" for action in everything]),
        {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]},
    ]


def _identity(name: str, keys: Keys, actions: list[str]) -> dict[str, Any]:
    pair = {"accessKey": keys.access_key, "secretKey": keys.secret_key}
    return {"name": name, "credentials": [pair], "actions": actions}


def _start(data: Path, config: Path, log: Any) -> tuple[subprocess.Popen[bytes], int]:
    """Starts the server; tries other ports where one was taken between being found free and being bound."""
    for _ in range(3):
        ports = free_ports(len(_PORTS))
        process = subprocess.Popen(
            _command(data, config, ports), stdout=log, stderr=log, env=_environment(data), start_new_session=True
        )
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{ports[0]}/healthz")
        except ChildProcessError:
            continue
        except BaseException:
            _end(process)
            raise
        return process, ports[0]
    raise RuntimeError(f"SeaweedFS does not start: see {log.name}")


def _command(data: Path, config: Path, ports: list[int]) -> list[str]:
    weed = Path(sys.executable).parent / "weed"
    command = [str(weed), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-s3"]
    command += [f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)]
    command += [f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=2000"]
    command += ["-volume.minFreeSpace=100MiB", "-master.garbageThreshold=0.9"]
    return command


def _environment(data: Path) -> dict[str, str]:
    """One volume a bucket, made when it is first written to: seven at once are the default and slow."""
    growth = {f"WEED_MASTER_VOLUME_GROWTH_COPY_{n}": "1" for n in (1, 2, 3, "OTHER")}
    return {"PATH": os.environ["PATH"], "HOME": str(data), "TMPDIR": str(data), **growth}


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError
        try:
            with opener.open(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError("SeaweedFS is not ready in time")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills it: its data is thrown away, and a graceful end takes seconds."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
