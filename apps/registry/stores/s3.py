"""S3 and what speaks like it. Settings: bucketName, endpoint, region, prefix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from apps.core.errors import Problem
from apps.registry.stores.base import CHUNK, CONNECT_S, PARTIAL, READ_S, TRIES, Kind, Store, put_each, reading, refused
from apps.registry.stores.guard import guard, problem_in

ABSENT = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
PART, MOST_PARTS = 16 * 2**20, 10_000  # bytes; what S3 takes
BROKEN = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "500", "503"}


class S3Store(Store):
    def __init__(self, name: str, settings: dict[str, Any], secrets: dict[str, Any]) -> None:
        self.name = name
        self.bucket = settings["bucketName"]
        self.prefix = settings.get("prefix") or ""
        endpoint = settings.get("endpoint") or None
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            proxies={},
            s3={"addressing_style": "path" if endpoint else "auto"},
            request_checksum_calculation="when_required",  # not every such store knows the newer checksums
            response_checksum_validation="when_required",
            **({} if secrets else {"signature_version": UNSIGNED}),
        )
        # always explicit: else the client would look for credentials of the machine
        self.client: Any = get_session().create_client(
            "s3",
            region_name=settings.get("region") or "us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=secrets.get("accessKeyId"),
            aws_secret_access_key=secrets.get("key"),
            config=config,
        )
        guard(self.client._endpoint.http_session._manager)  # noqa: SLF001 -- there is no public way to its connections

    def _key(self, path: str) -> str:
        return "/".join(filter(None, [self.prefix, path]))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._refusal(error) from None
        except BotoCoreError as error:
            raise problem_in(error) or Problem(
                "unavailable", what=f"Datastore {self.name}", evidence=type(error).__name__
            ) from None

    def _refusal(self, error: ClientError) -> Problem:
        code = str(error.response.get("Error", {}).get("Code", ""))[:60]
        if code in BROKEN:
            return Problem("unavailable", what=f"Datastore {self.name}", evidence=code)
        return refused("datastore", f"{self.name} refuses: {code}", evidence=f"{error.operation_name}: {code}")

    def _size(self, path: str) -> int | None:
        try:
            return int(self.client.head_object(Bucket=self.bucket, Key=self._key(path))["ContentLength"])
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise

    def _listed(self, path: str, **options: Any) -> Iterator[dict[str, Any]]:
        folder = self._key(path)
        pages = self.client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self.bucket, Prefix=f"{folder}/" if folder else "", **options)

    def kind(self, path: str) -> Kind | None:
        with self._errors():
            if path and self._size(path) is not None:
                return "file"
            first = next(self._listed(path, PaginationConfig={"MaxItems": 1}), {})
            return "folder" if first.get("Contents") else None

    def files(self, path: str, *, nested: bool) -> Iterator[tuple[str, int]]:
        with self._errors():
            size = self._size(path) if path else None
            if size is not None:
                yield path.rsplit("/", 1)[-1], size
                return
            start = len(self._key(path)) + 1 if self._key(path) else 0
            for page in self._listed(path, **({} if nested else {"Delimiter": "/"})):
                for each in page.get("Contents", []):
                    name = each["Key"][start:]
                    if name and name[-1] != "/" and PARTIAL not in name:  # a key that ends so only marks a folder
                        yield name, each["Size"]

    def open(self, path: str) -> BinaryIO:
        with self._errors():
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(path))["Body"]
        return reading(body.iter_chunks(CHUNK), body.close, self._errors)

    def put(self, source: Path, path: str) -> bool:
        return put_each(source, path, occupied=self.kind(path) is not None, write=self._write, delete=self.delete)

    def _write(self, file: Path, path: str) -> bool:
        place = {"Bucket": self.bucket, "Key": self._key(path)}
        size = file.stat().st_size
        with self._errors(), file.open("rb") as stream:
            try:
                if size > PART:
                    self._write_parts(stream, size, place)
                else:
                    self.client.put_object(**place, Body=stream, IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] in TAKEN:
                    return False
                raise
        return True

    def _write_parts(self, stream: BinaryIO, size: int, place: dict[str, str]) -> None:
        """It is there when all of it is: nothing can be read before the last call."""
        part = max(PART, -(-size // MOST_PARTS))
        place = {**place, "UploadId": self.client.create_multipart_upload(**place)["UploadId"]}
        done = False
        try:
            tags: list[dict[str, Any]] = []
            while chunk := stream.read(part):
                number = len(tags) + 1
                found = self.client.upload_part(**place, PartNumber=number, Body=chunk)
                tags.append({"PartNumber": number, "ETag": found["ETag"]})
            self.client.complete_multipart_upload(**place, MultipartUpload={"Parts": tags}, IfNoneMatch="*")
            done = True
        finally:
            if not done:
                self.client.abort_multipart_upload(**place)

    def delete(self, path: str) -> None:
        """A file, or all that is below a folder."""
        if not path:
            super().delete(path)
        with self._errors():
            self.client.delete_object(Bucket=self.bucket, Key=self._key(path))
            for page in self._listed(path):
                for each in page.get("Contents", []):
                    self.client.delete_object(Bucket=self.bucket, Key=each["Key"])
