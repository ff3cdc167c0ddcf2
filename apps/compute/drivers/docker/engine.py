"""Talking to the engine: one client per process, a time limit on every call, one error for "it does not answer"."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import urllib3
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from apps.compute.drivers.base import DriverUnavailable

SLOW_S = 60.0  # what the engine may take to make, start or remove a container once it has answered at all
INFO_S = 60.0
SILENT_S = 5.0  # for so long an engine that has just let us wait is not asked again
FRAME = struct.Struct(">BxxxL")
STREAMS = {2: "stderr"}


class Client(APIClient):
    """The SDK's, with a time limit also where the SDK sets none (events, streams)."""

    def send(self, request: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        return super().send(request, **kwargs)


class Engine:
    """The container engine at `url`; made without asking it anything."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._made: dict[tuple[int, bool], Client] = {}
        self._info: tuple[float, dict[str, Any]] | None = None
        self._silent_until = 0.0

    def _client(self, *, slow: bool) -> Client:
        key = (os.getpid(), slow)  # connections do not survive a fork
        with self._lock:
            if key not in self._made:
                given: Any = {"version": "auto", "timeout": self.timeout_s}
                made = Client(self.url, **given)
                made.timeout = max(SLOW_S, self.timeout_s) if slow else self.timeout_s  # type: ignore[assignment]
                self._made[key] = made
            return self._made[key]

    @contextmanager
    def asked(self, *, slow: bool = False) -> Iterator[Any]:
        """The client; whatever says that the engine does not answer is raised as DriverUnavailable.

        Raises:
            NotFound, APIError: the engine answered, and refused what it was asked.
        """
        if time.monotonic() < self._silent_until:
            raise DriverUnavailable(f"The container engine at {self.url} has just not answered in time.")
        try:
            yield self._client(slow=slow)
        except APIError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError) as error:
            if late(error):
                # Whoever asks for many containers in turn must not wait for each: the others' replicas wait too.
                self._silent_until = time.monotonic() + SILENT_S
            raise DriverUnavailable(f"The container engine at {self.url} does not answer: {reason(error)}") from error

    @contextmanager
    def obeyed(self) -> Iterator[Any]:
        """The same where no refusal is expected: then the engine is in trouble, and trying again is all there is."""
        try:
            with self.asked() as client:
                yield client
        except APIError as error:
            raise unwilling(error) from error

    def info(self) -> dict[str, Any]:
        """What the engine tells of itself and its machine, at most a minute old."""
        if self._info is None or time.monotonic() - self._info[0] > INFO_S:
            with self.obeyed() as client:
                self._info = (time.monotonic(), client.info())
        return self._info[1]

    def get(self, path: str, **params: Any) -> Any:
        """A GET that the SDK does not offer in this shape; the answer is a stream."""
        with self.asked() as client:
            answer = client.get(f"{client.base_url}/v{client.api_version}{path}", params=params, stream=True)
            client._raise_for_status(answer)  # noqa: SLF001 -- it makes the SDK's own errors
            return answer

    def output(self, container: str, **params: Any) -> Iterator[tuple[str, bytes]]:
        """(stream, record) of a container's log, oldest first; none for a container that is gone."""
        try:
            wanted = params | {"stdout": 1, "stderr": 1, "timestamps": 1}
            with self.asked(), self.get(f"/containers/{container}/logs", **wanted) as answer:
                yield from frames(answer.iter_content(chunk_size=None))
        except NotFound:
            return
        except APIError as error:
            raise unwilling(error) from error


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """The engine's framing of two streams in one: a head of eight bytes says which, and how long."""
    data = b""
    for chunk in chunks:
        data += chunk
        start = 0
        while len(data) - start >= FRAME.size:
            number, size = FRAME.unpack_from(data, start)
            end = start + FRAME.size + size
            if len(data) < end:
                break
            yield STREAMS.get(number, "stdout"), data[start + FRAME.size : end]
            start = end
        data = data[start:]


def unwilling(error: APIError) -> DriverUnavailable:
    return DriverUnavailable(f"The container engine refuses: {said(error)}")


def said(error: APIError) -> str:
    """The engine's own words."""
    return str(error.explanation or error)[:1000]


def reason(error: BaseException) -> str:
    """The innermost cause, without the layers of libraries around it."""
    *_, last = causes(error)
    return (str(last) or type(last).__name__)[:300]


def late(error: BaseException) -> bool:
    return any(isinstance(each, (TimeoutError, requests.Timeout)) for each in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
