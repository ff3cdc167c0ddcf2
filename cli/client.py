"""The REST API as the command line uses it. Standard library only."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from cli.home import Home
from cli.up import Ports, UpError

TIMEOUT_S = 60.0
POLL_S = 0.5
ENDED = ("Succeeded", "Failed", "Canceled")


class RefusedError(UpError):
    """The server said no; the text is its own sentence and what to do next."""


@dataclass
class Client:
    """Of one installation: `PORTWAY_URL` and `PORTWAY_TOKEN`, else the one that runs on this machine."""

    base: str
    token: str
    ca: str = ""
    _bearer: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, home: Home) -> Client:
        """Raises UpError when neither the variables nor an installation of this machine say where to go."""
        url, token = os.environ.get("PORTWAY_URL", ""), os.environ.get("PORTWAY_TOKEN", "")
        if url and token:
            return cls(url.rstrip("/"), token, os.environ.get("PORTWAY_CA", ""), _bearer=token)
        secret = home.secrets / "sdk-token"
        if not secret.exists():
            raise UpError("There is no Portway here: run `portway up` once, or set PORTWAY_URL and PORTWAY_TOKEN.")
        ports = Ports.from_environment()
        return cls(f"https://{ports.host}:{ports.tls}", secret.read_text().strip(), str(home.ca))

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[Any, dict[str, str]]:
        """The answer's JSON and its headers (names in lower case). `path` is below the address, or an address of it.

        Raises:
            RefusedError: with the server's message.
            UpError: it cannot be reached.
        """
        return self._send(method, path.removeprefix(self.base), body, {**(headers or {}), **self._authorization()})

    @contextmanager
    def open(self, path: str, headers: dict[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """The answer to a GET as it comes, to be read piece by piece. Raises what `call` raises."""
        link = self._link()
        try:
            link.request("GET", path, None, {**(headers or {}), **self._authorization()})
            answer = link.getresponse()
            if answer.status >= http.client.BAD_REQUEST:
                raise RefusedError(_said(answer.status, answer.read()))
            yield answer
        except (ConnectionError, TimeoutError, ssl.SSLError, socket.gaierror, http.client.HTTPException) as error:
            raise UpError(f"{self.base} does not answer: {error}. See `portway status`.") from None
        finally:
            link.close()

    def _authorization(self) -> dict[str, str]:
        if not self._bearer:
            self._bearer = self._exchange()
        return {"Authorization": f"Bearer {self._bearer}"}

    def _exchange(self) -> str:
        path = f"/msi/token?resource={quote(self.base, safe='')}&api-version=2019-08-01"
        answer, _ = self._send("GET", path, None, {"X-IDENTITY-HEADER": self.token})
        return str(answer["access_token"])

    def _link(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.base)
        host, port = parts.hostname or "localhost", parts.port
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca or None)
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[Any, dict[str, str]]:
        link = self._link()
        data = None if body is None else json.dumps(body)
        try:
            link.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = link.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UpError(f"{self.base} does not answer: {error}. See `portway status`.") from None
        finally:
            link.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status >= http.client.BAD_REQUEST:
            raise RefusedError(_said(answer.status, text))
        return (json.loads(text) if text else None), found

    def follow(self, workspace: str, operation: str, say: Callable[[str], None]) -> dict[str, Any]:
        """Say each line of a running operation's log as it comes; the operation once it has ended."""
        path = f"/api/v1/workspaces/{workspace}/operations/{operation}"
        offsets: dict[str, int] = {}
        while True:
            state, _ = self.call("GET", path)  # before the log: what it said last is not missed
            for step in state["properties"]["steps"]:
                name = step["name"]
                chunk, _ = self.call("GET", f"{path}/log?step={quote(name)}&offset={offsets.get(name, 0)}")
                offsets[name] = chunk["offset"]
                for line in chunk["text"].splitlines():
                    say(line)
            if state["status"] in ENDED:
                return dict(state)
            time.sleep(POLL_S)


def build(client: Client, workspace: str, environment: str, say: Callable[[str], None]) -> int:
    """Build a version of an environment and follow it; the exit code. `environment` is NAME:VERSION."""
    name, _, version = environment.removeprefix("azureml:").partition(":")
    if not name or not version:
        raise UpError(f"{environment} is no NAME:VERSION.")
    path = f"/api/v1/workspaces/{workspace}/environments/{quote(name)}/versions/{quote(version)}/build"
    _, headers = client.call("POST", path, {})
    operation = urlsplit(headers["azure-asyncoperation"]).path.rstrip("/").rpartition("/")[2]
    try:
        ended = client.follow(workspace, operation, say)
    except KeyboardInterrupt:
        say(f"The build goes on; its log is operation {operation} in the studio.")
        raise
    if ended["status"] == "Succeeded":
        return 0
    raise RefusedError(message_of(ended.get("error") or {}) or ended["status"])


def _said(status: int, text: bytes) -> str:
    """The message of an error body, with what to do next."""
    try:
        return message_of(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"


def message_of(error: dict[str, Any]) -> str:
    """What happened, the line that proves it, what to do next."""
    details = [each["message"] for each in error.get("details", []) if each.get("code") in {"Evidence", "NextStep"}]
    return "\n  ".join(filter(None, [error.get("message", ""), *details]))
