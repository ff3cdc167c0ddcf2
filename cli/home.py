"""Where Portway keeps its state, and the settings every part reads from the environment. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOCKET_PATH_MAX = 107  # what the kernel takes for a unix socket
LONGEST_SOCKET_NAME = 48  # below the run folder: "r/<replica key>/m.sock"


class HomeError(Exception):
    """The state folder cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Home:
    """The state folder of one installation, `$PORTWAY_HOME`."""

    root: Path
    local: Path | None = None

    @classmethod
    def from_environment(cls) -> Home:
        """`PORTWAY_LOCAL`: for one of several hosts that share the state folder, what is its own."""
        local = os.environ.get("PORTWAY_LOCAL", "")
        root = Path(os.environ.get("PORTWAY_HOME", ".portway")).expanduser().resolve()
        return cls(root, Path(local).expanduser().resolve() if local else None)

    @property
    def own(self) -> Path:
        """What no other host may see: sockets and replicas."""
        return self.local or self.root

    @cached_property
    def run(self) -> Path:
        """Sockets live here; below the temporary folder when the home's path is too long for them."""
        inside = self.own / "run"
        if len(str(inside)) + LONGEST_SOCKET_NAME <= SOCKET_PATH_MAX:
            return inside
        digest = hashlib.sha256(str(self.own).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"portway-{os.getuid()}-{digest}"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def uploads(self) -> Path:
        """Scratch space for uploads, on the file system they will stay on."""
        return self.root / "uploads"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def static(self) -> Path:
        """Collected files of the studio."""
        return self.root / "static"

    @property
    def replicas(self) -> Path:
        return self.own / "replicas"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def database(self) -> Path:
        return self.root / "portway.sqlite3"

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def web_socket(self) -> Path:
        return self.run / "web.sock"

    @property
    def mlflow_socket(self) -> Path:
        return self.run / "mlflow.sock"

    @property
    def broker_socket(self) -> Path:
        return self.run / "valkey.sock"

    @property
    def envoy_admin_socket(self) -> Path:
        return self.run / "envoy.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def broker_folder(self) -> Path:
        """The socket of a broker that is a service of its own; nothing else, for it sees no other folder."""
        return self.root / "broker"

    @property
    def engine_socket(self) -> Path:
        """Where `cli.window` shows the container engine to parts that must not have it."""
        return self.root / "engine" / "engine.sock"

    def create(self) -> None:
        """Make every folder, private to this user where it holds secrets.

        Raises:
            HomeError: the folder cannot be written, or the socket folder belongs to somebody else.
        """
        try:
            for folder in (
                self.root,
                self.own,
                self.logs,
                self.artifacts,
                self.environments,
                self.replicas,
                self.gateway,
                self.uploads,
                self.static,
            ):
                folder.mkdir(parents=True, exist_ok=True)
            self.logs.chmod(0o700)  # addresses of callers, and what models print
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            self.run.mkdir(mode=0o711, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"Portway cannot write its state folder {self.root} ({error.strerror}). "
                "Set PORTWAY_HOME to a folder you own."
            ) from error
        if self.run.stat().st_uid != os.getuid():
            raise HomeError(
                f"The socket folder {self.run} belongs to another user. Remove it, or set a shorter PORTWAY_HOME."
            )

    @cached_property
    def installation(self) -> str:
        """Twelve characters that tell this installation from others of the machine; on every container of ours."""
        return hashlib.sha256(self.secret("installation").encode()).hexdigest()[:12]

    def secret(self, name: str) -> str:
        """A random secret, made on first use and kept with mode 0600."""
        path = self.secrets / name
        if not path.exists():
            self.write_secret(name, secrets.token_urlsafe(48).encode())
        return path.read_text()

    def write_secret(self, name: str, content: bytes) -> None:
        """Write a secret, whole or not at all; the first of two writers wins."""
        self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.write_private(self.secrets / name, content, replace=False)

    def write_private(self, path: Path, content: bytes | str, *, replace: bool = True) -> None:
        """Write a file with mode 0600 at once. Raises FileExistsError when it is there and may not be replaced."""
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        try:
            if replace:
                draft.replace(path)
            else:
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def env_secret(name: str) -> str:
    """A secret from the environment: the variable itself, or the content of the file that `NAME_FILE` names.

    Raises:
        HomeError: both are set, or the file cannot be read.
    """
    value, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if not file:
        return value
    if value:
        raise HomeError(f"Set {name} or {name}_FILE, not both.")
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise HomeError(f"{name}_FILE names {file}, which cannot be read: {reason}.") from None


def env_int(name: str, default: int) -> int:
    """An integer from the environment.

    Raises:
        HomeError: the variable is set to something else.
    """
    raw = os.environ.get(name, "")
    if not raw:
        return default
    try:
        return int(raw)
    except ValueError:
        raise HomeError(f"{name} must be a whole number, not {raw!r}.") from None


def env_bool(name: str, *, default: bool) -> bool:
    """A switch from the environment: 1/true/yes/on or 0/false/no/off.

    Raises:
        HomeError: the variable is set to something else.
    """
    raw = os.environ.get(name, "").lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise HomeError(f"{name} must be 1 or 0, not {raw!r}.")


def env_size(name: str, default: int) -> int:
    """Bytes: a whole number, with `k`, `m` or `g` behind it for powers of 1024."""
    raw = os.environ.get(name, "").strip().lower() or str(default)
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)b?", raw)
    if match is None:
        raise HomeError(f"{name} must be a size such as 512m or 4g, not {raw!r}.")
    return int(match[1]) * {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}[match[2]]


def env_pairs(name: str) -> dict[str, str]:
    """`NAME=value` words, quoted as in a shell. What is wrong is told without the values, which may be secret."""
    try:
        words = shlex.split(os.environ.get(name, ""))
    except ValueError as error:
        raise HomeError(f"{name} is not understood: {error}.") from None
    pairs = [word.partition("=") for word in words]
    wrong = [
        number for number, (key, sign, _) in enumerate(pairs, 1) if not sign or not re.fullmatch(r"[A-Za-z_]\w*", key)
    ]
    if wrong:
        raise HomeError(f"{name} must be words of the form NAME=value; word {wrong[0]} is not.")
    return {key: value for key, _, value in pairs}


def docker_url() -> str:
    """Where the container engine answers: `PORTWAY_DOCKER` is `off`, an address, or `auto`.

    `auto`, the default, is `DOCKER_HOST`, else the usual socket when this user may write to it, else none.
    """
    asked = os.environ.get("PORTWAY_DOCKER", "auto") or "auto"
    if asked == "off":
        return ""
    if asked != "auto":
        return asked
    usual = "/var/run/docker.sock"
    return os.environ.get("DOCKER_HOST", "") or (f"unix://{usual}" if os.access(usual, os.W_OK) else "")
