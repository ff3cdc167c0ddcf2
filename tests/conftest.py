"""Fixtures every test may use."""

from __future__ import annotations

import shutil

import pytest
from django.conf import settings


def pytest_sessionfinish() -> None:
    shutil.rmtree(settings.TEST_HOME, ignore_errors=True)


@pytest.fixture
def workspace(db):
    from apps.accounts.models import Workspace

    return Workspace.objects.create(name="lab")


@pytest.fixture
def people(db, workspace):
    """Olga owns the workspace, Dan is its data scientist, Rita reads, Charlie is a stranger with a workspace of his own."""
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
