"""Azure Blob Storage. Settings: accountName, containerName, endpoint (suffix or URL), protocol, prefix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobPrefix, ContainerClient
from requests.adapters import HTTPAdapter

from apps.core.errors import Problem
from apps.registry.stores.addresses import account_url
from apps.registry.stores.base import CONNECT_S, PARTIAL, READ_S, TRIES, Kind, Store, put_each, reading, refused
from apps.registry.stores.guard import guard, problem_in

BROKEN = 500


class _Checked(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        guard(self.poolmanager)


class AzureStore(Store):
    def __init__(self, name: str, settings: dict[str, Any], secrets: dict[str, Any]) -> None:
        self.name = name
        self.prefix = settings.get("prefix") or ""
        session = requests.Session()
        session.trust_env = False
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Checked())
        credential: Any = secrets.get("sasToken")
        if secrets.get("key"):
            credential = {"account_name": settings["accountName"], "account_key": secrets["key"]}
        self.client = ContainerClient(
            account_url(settings),
            settings["containerName"],
            credential=credential,
            transport=RequestsTransport(session=session, session_owner=False, use_env_settings=False),
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            retry_total=TRIES - 1,
            retry_connect=TRIES - 1,
            initial_backoff=1,
            increment_base=2,
        )

    def _key(self, path: str) -> str:
        return "/".join(filter(None, [self.prefix, path]))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except HttpResponseError as error:
            code = str(getattr(error, "error_code", "") or error.status_code or "")[:60]
            if error.status_code is None or error.status_code >= BROKEN:
                raise Problem("unavailable", what=f"Datastore {self.name}", evidence=code) from None
            raise refused("datastore", f"{self.name} refuses: {code}", evidence=f"HTTP {error.status_code}") from None
        except AzureError as error:
            evidence = type(error).__name__
            raise problem_in(error) or Problem(
                "unavailable", what=f"Datastore {self.name}", evidence=evidence
            ) from None
        except ValueError:  # an account key that is not Base64
            raise refused("datastore", f"the credentials of {self.name} cannot be used") from None

    def _size(self, path: str) -> int | None:
        try:
            return int(self.client.get_blob_client(self._key(path)).get_blob_properties().size)
        except ResourceNotFoundError as error:
            if getattr(error, "error_code", "") == "ContainerNotFound":
                raise
            return None

    def _start(self, path: str) -> str:
        folder = self._key(path)
        return f"{folder}/" if folder else ""

    def kind(self, path: str) -> Kind | None:
        with self._errors():
            if path and self._size(path) is not None:
                return "file"
            found = self.client.list_blobs(name_starts_with=self._start(path), results_per_page=1)
            return "folder" if next(iter(found), None) is not None else None

    def files(self, path: str, *, nested: bool) -> Iterator[tuple[str, int]]:
        with self._errors():
            size = self._size(path) if path else None
            if size is not None:
                yield path.rsplit("/", 1)[-1], size
                return
            start = self._start(path)
            found = self.client.list_blobs if nested else self.client.walk_blobs
            each: Any
            for each in found(name_starts_with=start):
                name = each.name[len(start) :]
                folder = isinstance(each, BlobPrefix) or not name or name[-1] == "/"
                if not folder and PARTIAL not in name:
                    yield name, each.size

    def open(self, path: str) -> BinaryIO:
        with self._errors():
            found = self.client.get_blob_client(self._key(path)).download_blob()
        return reading(found.chunks(), lambda: None, self._errors)

    def put(self, source: Path, path: str) -> bool:
        return put_each(source, path, occupied=self.kind(path) is not None, write=self._write, delete=self.delete)

    def _write(self, file: Path, path: str) -> bool:
        with self._errors(), file.open("rb") as stream:
            try:
                self.client.get_blob_client(self._key(path)).upload_blob(stream, overwrite=False)
            except ResourceExistsError:
                return False
        return True

    def delete(self, path: str) -> None:
        """A file, or all that is below a folder."""
        if not path:
            super().delete(path)
        with self._errors():
            names = [
                self._key(path),
                *(each.name for each in self.client.list_blobs(name_starts_with=self._start(path))),
            ]
            for name in names:
                try:
                    self.client.get_blob_client(name).delete_blob()
                except ResourceNotFoundError:
                    continue
