"""A window on the container engine for parts that must not have it: `python -m cli.window`. Standard library only.

Whoever may write to the engine's socket is root on its machine. The web part only needs to read the logs and the state
of this installation's own containers, so that is all this lets through, on a socket of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cli.home import Home, docker_url
from cli.supervisor import UnixLink

LABEL = "portway.installation"
INSTALLATION = "installation"  # beside the socket: the home with its secrets is not seen here
TIMEOUT_S = 30.0
PIECE = 64 * 1024
ANSWER_MOST = 64 * 2**20  # of what is looked through before it is passed on
PATH = re.compile(r"(?:/v[0-9]+\.[0-9]+)?(/[A-Za-z0-9_./-]+)", re.ASCII)
PLAIN = {"/_ping", "/version", "/info"}
LIST = "/containers/json"
ONE = re.compile(r"/containers/([A-Za-z0-9_.-]{1,200})/(json|logs)", re.ASCII)


class Handler(BaseHTTPRequestHandler):
    """Answers one question per connection."""

    server: Window
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        match = PATH.fullmatch(address.path)
        path = match[1] if match else ""
        one = ONE.fullmatch(path)
        self.began = False
        try:
            if path in PLAIN:
                self._pass(address.path, "")
            elif path == LIST:
                self._list(address.path, address.query)
            elif one is not None:
                self._one(one[1], address.path, address.query)
            else:
                self._refuse(HTTPStatus.FORBIDDEN, "only worker and controller may ask this of the container engine")
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self.began:  # part of an answer is out: an end that comes too early is all that can be told
                self.close_connection = True
                return
            self._refuse(HTTPStatus.BAD_GATEWAY, f"the container engine does not answer: {error}")

    do_HEAD = do_GET  # noqa: N815 -- the base's name

    def _list(self, path: str, query: str) -> None:
        status, found = self._asked(f"{path}?{query}")
        ours = [each for each in found if self._ours(each.get("Labels"))] if isinstance(found, list) else found
        self._tell(status, ours)

    def _one(self, name: str, path: str, query: str) -> None:
        status, found = self._asked(f"/containers/{name}/json")
        if status != HTTPStatus.OK:
            self._tell(status, found)
        elif not self._ours((found.get("Config") or {}).get("Labels")):
            self._refuse(HTTPStatus.NOT_FOUND, f"No such container: {name}")  # as the engine says it
        elif path.endswith("/json"):
            self._tell(status, found)
        else:
            wanted = [(key, value) for key, value in parse_qsl(query) if key != "follow"]
            self._pass(path, urlencode(wanted))

    def _ours(self, labels: dict[str, str] | None) -> bool:
        return (labels or {}).get(LABEL) == self.server.installation

    def _asked(self, path: str) -> tuple[int, Any]:
        link = UnixLink(self.server.engine, timeout_s=TIMEOUT_S)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            text = answer.read(ANSWER_MOST)
        finally:
            link.close()
        return answer.status, json.loads(text)

    def _pass(self, path: str, query: str) -> None:
        link = UnixLink(self.server.engine, timeout_s=TIMEOUT_S)
        try:
            link.request(self.command, f"{path}?{query}" if query else path)
            answer = link.getresponse()
            self.send_response(answer.status)
            for name in ("Content-Type", "Api-Version", "Ostype", "Docker-Experimental"):
                if value := answer.getheader(name):
                    self.send_header(name, value)
            self.began = True
            self.end_headers()
            while piece := answer.read1(PIECE):
                self.wfile.write(piece)
        finally:
            link.close()

    def _tell(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._tell(status, {"message": why})

    def address_string(self) -> str:
        return "unix"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Only what goes wrong is worth a line."""
        if str(int(code))[0] in "45" and int(code) != HTTPStatus.NOT_FOUND:
            super().log_request(code, size)


class Window(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, home: Home, engine: Path) -> None:
        self.engine = engine
        self.installation = (home.engine_socket.parent / INSTALLATION).read_text()
        home.engine_socket.unlink(missing_ok=True)
        super().__init__(str(home.engine_socket), Handler)
        home.engine_socket.chmod(0o600)


def main() -> int:
    """Serve until SIGTERM."""
    address = docker_url()
    if not address.startswith("unix://"):
        print(f"The container engine must be a unix socket, not {address or 'off'} (PORTWAY_DOCKER).", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.umask(0o077)
    with Window(Home.from_environment(), Path(address.removeprefix("unix://"))) as window:
        try:
            window.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
