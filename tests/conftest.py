"""Fixtures every test may use."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from django.conf import settings

from tests.browser import chromium, open_page  # noqa: F401 -- fixtures
from tests.engine import docker_client, engine, leave_no_network  # noqa: F401 -- fixtures

SKIPPED: list[str] = []


def pytest_runtest_logreport(report) -> None:
    if report.skipped:
        SKIPPED.append(
            f"{report.nodeid}: {report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr}"
        )


def pytest_sessionfinish(session) -> None:
    """Where everything must run (PORTWAY_REQUIRE_ALL=1), a skipped test fails the run."""
    if SKIPPED and os.environ.get("PORTWAY_REQUIRE_ALL") == "1":
        print("\nskipped, but everything must run here:", *SKIPPED, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    leave_no_network()
    home = getattr(settings, "TEST_HOME", None)
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """PostgreSQL drops no database that a thread of ours is still connected to."""
    yield
    from django.db import connection

    if connection.vendor == "postgresql":
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(f"{others} AND pid <> pg_backend_pid()")


@pytest.fixture
def workspace(db):
    from apps.accounts.models import Workspace

    return Workspace.objects.create(name="lab")


@pytest.fixture
def people(db, workspace):
    """Olga owns the workspace, Carl contributes, Dan is data scientist, Rita reads; Charlie has another one."""
    from apps.accounts.models import Membership, User, Workspace

    other = Workspace.objects.create(name="other")
    made = {}
    for name, role, where in [
        ("olga", "owner", workspace),
        ("carl", "contributor", workspace),
        ("dan", "data-scientist", workspace),
        ("rita", "reader", workspace),
        ("charlie", "owner", other),
    ]:
        made[name] = User.objects.create_user(username=name, password="a long password")
        Membership.objects.create(user=made[name], workspace=where, role=role)
    return made


@pytest.fixture(scope="session")
def envoy_process():
    """One real Envoy for the whole run, on the settings' own ports and folders."""
    from apps.gateway import domain, envoy
    from apps.gateway.admin import Admin
    from apps.gateway.certificates import ensure_certificates
    from apps.gateway.publisher import Publisher

    home = settings.HOME
    ensure_certificates(home.gateway / "certs", ca_pem=home.ca)
    front = domain.front()
    front.xds.mkdir(parents=True, exist_ok=True)
    import json

    (front.xds.parent / "bootstrap.json").write_text(json.dumps(envoy.render_bootstrap(front)))
    Publisher(front.xds, front.admin_socket, front.envoy_log).publish(envoy.render(front, ()), version=1)
    with Path(front.envoy_log).open("wb") as log:
        process = subprocess.Popen(envoy.envoy_argv(front), stderr=log, stdout=log, start_new_session=True)
    deadline = time.monotonic() + 20
    while not Admin(front.admin_socket).ready():
        if time.monotonic() > deadline:
            raise RuntimeError(Path(front.envoy_log).read_text()[-2000:])
        time.sleep(0.05)
    yield front
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
def world(transactional_db, envoy_process, settings):
    """The engine with real parts: database, Envoy, drivers. Operations run when the test says so."""
    from tests.world import World

    made = World()
    yield made
    made.clean()


@pytest.fixture(scope="session")
def mlflow_process(django_db_setup):
    """The real MLflow server for the whole run, on the settings' own socket; ended before the test database goes."""
    from tests.mlflow_parts import start_mlflow

    process = start_mlflow()
    yield process
    process.terminate()
    process.wait(timeout=15)


@pytest.fixture
def mlflow_door(transactional_db, envoy_process, mlflow_process):
    """MLflow as users meet it: through the gateway, which asks a web on the test's database."""
    from tests.mlflow_parts import web

    with web():
        yield f"https://localhost:{settings.PORT}/mlflow"
