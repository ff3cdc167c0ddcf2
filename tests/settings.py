"""Settings of the tests: a home of their own, and PostgreSQL when PORTWAY_TEST_DATABASE_URL names one."""

import os
import socket
import tempfile
from pathlib import Path


def _free_ports(count):
    """Ports nobody listens on now; the gateway of the tests takes them."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


_home = tempfile.mkdtemp(prefix="pw-", dir="/tmp")
_ports = _free_ports(3)
os.environ.update(
    {
        "PORTWAY_HOME": _home,
        "PORTWAY_PORT": str(_ports[0]),
        "PORTWAY_HTTP_PORT": str(_ports[1]),
        "PORTWAY_PRIVATE_PORT": str(_ports[2]),
        "PORTWAY_START_DEADLINE_S": "40",
        "PORTWAY_SECURE_COOKIES": "1",
        "DATABASE_URL": os.environ.get("PORTWAY_TEST_DATABASE_URL", ""),
        "REDIS_URL": "",
        "PORTWAY_DOCKER": "off",  # tests that use the engine say so
    }
)

from portal.settings import *  # noqa: E402, F403
from portal.settings import DATABASES  # noqa: E402

TEST_HOME = Path(_home)
CELERY_BROKER_URL = "memory://"  # the tests run operations themselves; see tests/conftest.py
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_DRIVER = "fake"
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # a file, because handlers and their heartbeat write from several threads
    DATABASES["default"]["TEST"] = {"NAME": str(Path(_home) / "test.sqlite3")}
CELERY_BROKER_URL = "memory://"
