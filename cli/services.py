"""`python -m cli.services <what>`: what the services of docker-compose.yml run. Standard library only.

`own`: as root, give the state folder to Portway's user. `setup`: everything a start needs, once. `part <name>`: become
that part. `gateway`: become Envoy. `demo`: set up the demo. `replicas`: wait, and take the instances away when all is
taken down. `alive <part>`: a health check.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from cli import handout, parts, window
from cli.home import Home, HomeError
from cli.main import health
from cli.supervisor import UnixLink
from cli.up import Ports, UpError, check_ports, print_call

CHECK_S = 10.0
LOG_MOST = 8 * 2**20
STOP_S = 100.0


def own(home: Home) -> None:
    """Make the state folder, and those inside that other services mount alone, and give them to Portway's user."""
    user, _, group = os.environ["PORTWAY_USER"].partition(":")
    mine = [home.root, home.run, home.logs, home.gateway, home.broker_folder, home.engine_socket.parent]
    if home.run.parent != home.root:
        raise HomeError(f"The path {home.root} is too long for sockets below it: set a shorter PORTWAY_STATE.")
    for folder in mine:
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, int(user), int(group))
    home.root.chmod(0o711)  # replicas and the gateway get to their sockets, nobody lists it


def setup(home: Home) -> None:
    """Tables, certificates, the administrator, static files, and copies of what containers of models mount."""
    copies = os.environ["PORTWAY_HANDOUT"]
    handout.make(parts.SOURCE, copies)
    home.create()
    (home.engine_socket.parent / window.INSTALLATION).write_text(home.installation)
    print(f"installation {home.installation}", flush=True)
    for command in (("collectstatic", "--noinput", "--verbosity=0"), ("bootstrap", "--leave-replicas")):
        subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=parts.SOURCE, env=parts.environment_of(home), stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    print("ready for the other services", flush=True)


def part(home: Home, name: str) -> None:
    """Become web, worker, controller or mlflow."""
    found = next(each for each in parts.parts(home, os.environ) if each.name == name)
    os.execve(found.argv[0], found.argv, {**parts.environment_of(home), "PORTWAY_PART": name})  # noqa: S606 -- its pid counts


def demo(home: Home) -> None:
    """Train two models, deploy them, and say how to ask them."""
    folder = home.uploads / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    for command in (["examples/demo/train.py", str(folder)], ["manage.py", "demo", str(folder)]):
        subprocess.run([sys.executable, *command], cwd=parts.SOURCE, env=parts.environment_of(home), check=True)
    print_call(home, Ports.from_environment())


def gateway(home: Home) -> None:
    """Become Envoy. Its log is a file, because who publishes a configuration reads there why it was refused."""
    argv = parts.gateway_argv(home)
    if not argv:
        raise UpError(f"There is no {home.gateway / 'argv.json'}: the service `setup` did not end well.")
    check_ports(Ports.from_environment())
    home.envoy_admin_socket.unlink(missing_ok=True)
    log = home.logs / "gateway.log"
    if log.exists() and log.stat().st_size > LOG_MOST:
        log.replace(log.with_suffix(".log.1"))
    print(f"Envoy writes its log to {log}", flush=True)
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.execv(argv[0], argv)  # noqa: S606 -- the engine watches this pid


def replicas(home: Home) -> None:
    """Wait for the end. Worker and controller end before this service, the database after it."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()
    subprocess.run(
        [sys.executable, "manage.py", "stop_replicas", "--remove"],
        cwd=parts.SOURCE, env=parts.environment_of(home), timeout=STOP_S, check=True,
    )  # fmt: skip


def alive(home: Home, part: str) -> None:
    """Raises UpError when the part does not do its work."""
    if part == "web":
        _ask(home.web_socket, "/readyz")
    elif part == "mlflow":
        _ask(home.mlflow_socket, "/mlflow/health")
    elif part == "gateway":
        _ask(home.envoy_admin_socket, "/ready")
    elif part == "engine":
        _ask(home.engine_socket, "/_ping")
    else:  # these listen nowhere: what they write to the database, web tells
        report = health(home)
        if report is None:
            raise UpError("web, which knows, does not answer")
        if not report["parts"][part]["up"]:
            raise UpError(report["parts"][part]["detail"])


def _ask(path: Path, question: str) -> None:
    link = UnixLink(path, timeout_s=CHECK_S)
    try:
        link.request("GET", question)
        answer = link.getresponse()
        text = answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise UpError(f"{path.name} does not answer: {error}") from None
    finally:
        link.close()
    if answer.status != HTTPStatus.OK:
        raise UpError(f"{path.name} answers {answer.status}: {text}")


COMMANDS: dict[str, Callable[..., None]] = {
    "own": own,
    "setup": setup,
    "part": part,
    "demo": demo,
    "gateway": gateway,
    "replicas": replicas,
    "alive": alive,
}


def main(what: str, *arguments: str) -> int:
    """One line on stderr says why something failed."""
    try:
        COMMANDS[what](Home.from_environment(), *arguments)
    except (UpError, HomeError) as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    except subprocess.SubprocessError as error:
        print(f"{what}: {error}; see the lines above", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
