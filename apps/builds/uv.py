"""Running uv: resolve, make the environment, install. Plain Python; every call has a deadline and can be cancelled."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

RESOLVE_S = 300.0
INSTALL_S = 1800.0
VENV_S = 60.0
PROBE_S = 10.0
LAST_LINES, LINES_KEPT, LONGEST_OUTPUT = 60, 500, 20 * 2**20
OLDEST = (3, 10)  # what the scoring server runs on, see runtime/overlay.py
KEEP = (
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
)


class UvError(Exception):
    """uv ended with an error; `output` are its last lines."""

    def __init__(self, output: str, *, timed_out: bool = False) -> None:
        super().__init__(output[-2000:])
        self.output = output
        self.timed_out = timed_out


@dataclass(frozen=True)
class Interpreter:
    path: Path
    version: str  # "3.11.7"

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


def binary() -> Path:
    """uv as installed beside the interpreter that runs us."""
    return Path(sysconfig.get_path("scripts")) / "uv"


def run(
    arguments: Sequence[str],
    *,
    cache: str,
    timeout_s: float,
    log: Callable[[str], None],
    check: Callable[[], None],
    env: Mapping[str, str] | None = None,
) -> str:
    """Run uv, passing on each line of its output as it comes; returns all of stdout.

    `env` is for uv alone, on top of what it gets of ours.

    Raises:
        UvError: it failed, or took longer than `timeout_s` seconds.
        whatever `check` raises: uv is ended first.
    """
    told = {name: os.environ[name] for name in KEEP if name in os.environ}
    told |= {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_INDEX"))}
    told |= {**(env or {}), "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    if cache:
        told["UV_CACHE_DIR"] = cache
    process = subprocess.Popen(
        [str(binary()), *arguments],
        env=told,
        cwd="/",  # uv reads the configuration of the project it is called in: ours depends on no folder
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = _pump(process, time.monotonic() + timeout_s, log, check)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
    if process.returncode != 0:
        raise UvError("\n".join(err[-LAST_LINES:]))
    return "".join(f"{line}\n" for line in out)


def _pump(
    process: subprocess.Popen[str], deadline: float, log: Callable[[str], None], check: Callable[[], None]
) -> tuple[list[str], list[str]]:
    out: list[str] = []
    err: list[str] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        for stream, lines in ((process.stdout, out), (process.stderr, err)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, lines)
        while selector.get_map():
            check()
            if time.monotonic() > deadline:
                raise UvError("\n".join(err[-LAST_LINES:]) or "no output", timed_out=True)
            for key, _ in selector.select(timeout=0.5):
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    selector.unregister(key.fileobj)
                    continue
                key.data.append(line.rstrip("\n"))
                if key.data is err:
                    log(line.rstrip("\n"))
                    del err[:-LINES_KEPT]
                    continue
                size += len(line)
                if size > LONGEST_OUTPUT:
                    raise UvError("uv prints too much")
    process.wait(timeout=10)
    return out, err


def own_interpreter() -> Interpreter:
    """The base Python of the environment we run in."""
    return Interpreter(Path(sys._base_executable), sysconfig.get_config_var("py_version"))  # type: ignore[attr-defined]  # noqa: SLF001


@lru_cache(maxsize=1)
def interpreters() -> tuple[Interpreter, ...]:
    """The Pythons at hand: our own first, then what lies in the usual places. Slow at first: each is started once."""
    found: dict[str, Interpreter] = {}
    own = own_interpreter()
    found[own.minor] = own
    roots = [Path("/usr/bin"), Path("/usr/local/bin"), *Path("/opt").glob("python*/bin")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    roots += sorted(pyenv.glob("*/bin"), reverse=True)
    for root in roots:
        for path in sorted(root.glob("python3.*")):
            if re.fullmatch(r"python3\.\d+", path.name) and path.name.removeprefix("python") not in found:
                version = _version_of(path)
                if version:
                    found[".".join(version.split(".")[:2])] = Interpreter(path, version)
    return tuple(found.values())


def _version_of(path: Path) -> str:
    """Its version, or "" when it does not run or cannot make environments."""
    code = "import sys, venv, ensurepip; print('%d.%d.%d' % sys.version_info[:3])"
    try:
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def choose(wanted: str) -> tuple[Interpreter, str]:
    """The interpreter for a wanted version, and a sentence when it is not quite that one ("" when it is).

    The wanted minor version when it is at hand; else the nearest newer one, else the nearest older one.
    """
    own = own_interpreter()
    minor = minor_of(wanted)
    if not minor:
        return own, ""
    target = tuple(int(part) for part in minor.split("."))
    if _numbers(own) == target:
        return own, ""
    usable = [each for each in interpreters() if _numbers(each) >= OLDEST]
    exact = [each for each in usable if _numbers(each) == target]
    if exact:
        return exact[0], ""
    newer = sorted((each for each in usable if _numbers(each) > target), key=_numbers)
    older = sorted((each for each in usable if _numbers(each) < target), key=_numbers, reverse=True)
    best = (newer or older or [own])[0]
    why = "not on this machine" if target >= OLDEST else "too old for the scoring server"
    return best, f"Python {wanted} is asked for but {why}: Python {best.version} is used instead."


def minor_of(wanted: str) -> str:
    """The "3.11" of "3.11.7"; empty when no minor version is named."""
    parts = re.findall(r"\d+", wanted)[:2]
    return f"{int(parts[0])}.{int(parts[1])}" if len(parts) == 2 else ""  # noqa: PLR2004 -- major and minor


def _numbers(each: Interpreter) -> tuple[int, ...]:
    return tuple(int(part) for part in each.minor.split("."))
