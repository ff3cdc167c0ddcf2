"""Settings of the tests: a home of their own, and PostgreSQL instead of SQLite when PORTWAY_TEST_DATABASE_URL is set."""

import os
import tempfile
from pathlib import Path

_home = tempfile.mkdtemp(prefix="pw-", dir="/tmp")
os.environ["PORTWAY_HOME"] = _home
os.environ["PORTWAY_SECURE_COOKIES"] = "1"
os.environ["DATABASE_URL"] = os.environ.get("PORTWAY_TEST_DATABASE_URL", "")
os.environ["REDIS_URL"] = ""

from portal.settings import *  # noqa: E402, F403
from portal.settings import DATABASES  # noqa: E402

TEST_HOME = Path(_home)
(TEST_HOME / "static").mkdir()
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # a file, because handlers and their heartbeat write from several threads
    DATABASES["default"]["TEST"] = {"NAME": str(Path(_home) / "test.sqlite3")}
CELERY_BROKER_URL = "memory://"
