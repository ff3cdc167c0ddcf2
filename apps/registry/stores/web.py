"""A public file of the web."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import urllib3

from apps.core import limits
from apps.core.errors import Problem
from apps.registry.stores.base import CHUNK, CONNECT_S, READ_S, TRIES, Kind, Store, reading, refused
from apps.registry.stores.guard import check_url, guard

HOPS = 5
WHOLE_S = 3600.0
MOVED = {301, 302, 303, 307, 308}
OK, ABSENT, BROKEN = 200, {404, 410}, 500


class WebStore(Store):
    """One file; its path is always ""."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).hostname or ""
        self.pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S), retries=urllib3.Retry(TRIES - 1, redirect=False)
        )
        guard(self.pool)

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path).replace("/", " ").split(" ")[-1] or "file"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            raise Problem("unavailable", what=self.host, evidence=type(error).__name__) from None

    def _get(self) -> Any:
        url = self.url
        for _ in range(HOPS):
            with self._errors():
                answer = self.pool.request(
                    "GET",
                    url,
                    headers={"Accept-Encoding": "identity"},
                    preload_content=False,
                    redirect=False,
                )
            if answer.status not in MOVED:
                return answer
            answer.close()
            url = check_url(urljoin(url, answer.headers.get("Location", "")), "uri")
        raise refused("uri", f"{self.host} leads from one address to the next, more than {HOPS} times")

    def _found(self) -> Any:
        """The answer with the file. Raises Problem "bad-field" or "unavailable" for any other."""
        answer = self._get()
        if answer.status == OK:
            return answer
        answer.close()
        if answer.status >= BROKEN:
            raise Problem("unavailable", what=self.host, evidence=f"HTTP {answer.status}")
        raise refused("uri", f"{self.host} does not give the file", evidence=f"HTTP {answer.status}")

    def kind(self, path: str) -> Kind | None:
        answer = self._get()
        answer.close()
        if answer.status in ABSENT:
            return None
        if answer.status != OK:
            self._found().close()
        return "file"

    def files(self, path: str, *, nested: bool) -> Iterator[tuple[str, int]]:
        answer = self._found()
        answer.close()
        size = answer.headers.get("Content-Length", "0")
        yield self.name, int(size) if size.isdigit() else 0

    def open(self, path: str) -> BinaryIO:
        answer = self._found()
        return reading(self._bounded(answer), answer.close, self._errors)

    def _bounded(self, answer: Any) -> Iterator[bytes]:
        most = limits.get("upload_bytes")
        left, until = most, time.monotonic() + WHOLE_S
        for chunk in answer.stream(CHUNK, decode_content=False):
            left -= len(chunk)
            if left < 0:
                raise Problem("upload-too-large", limit=f"{most // 2**20} MiB")
            if time.monotonic() > until:
                raise Problem("unavailable", what=self.host, evidence=f"not whole after {WHOLE_S:.0f} s")
            yield chunk
