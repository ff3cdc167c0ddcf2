"""Signed tokens live no longer than the personal access token they were made from."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.domain import create_token, revoke_token
from apps.accounts.models import Membership, PersonalToken, Role, Workspace
from apps.accounts.policy import Permission, workspaces_with
from apps.gateway import domain as gateway

pytestmark = pytest.mark.django_db


@pytest.fixture
def signed(client, people):
    row, token = create_token(user=people["dan"], name="sdk")
    made = client.get("/msi/token", {"resource": "https://ml.azure.com"}, headers={"X-Identity-Header": token}).json()
    return row, made["access_token"]


def status(token):
    return APIClient().get("/api/v1/workspaces/lab", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_signed_token_opens_what_its_user_may(signed):
    assert status(signed[1]) == 200


def test_revoking_the_token_ends_what_was_signed_for_it(signed, people):
    revoke_token(token=signed[0], actor=people["dan"])
    assert status(signed[1]) == 401


def test_so_does_its_expiry_and_the_lock_of_its_user(signed, people):
    PersonalToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert status(signed[1]) == 401
    PersonalToken.objects.update(expires_at=None)
    people["dan"].is_active = False
    people["dan"].save()
    assert status(signed[1]) == 401


def test_a_token_for_scoring_tells_the_gateway_where_its_user_may(client, people, workspace):
    for who, where in (("dan", ["lab"]), ("rita", []), ("charlie", ["other"])):
        _, token = create_token(user=people[who], name="sdk")
        asked = {"resource": "https://ml.azure.com"}
        made = client.get("/msi/token", asked, headers={"X-Identity-Header": token}).json()["access_token"]
        claims = gateway.claims_of(made, require=["pat"])
        assert (claims["workspaces"], claims["aud"], claims["sub"]) == (where, "https://ml.azure.com", who)


def test_a_token_of_an_endpoint_opens_no_workspace(people):
    assert status(gateway.issue_token("iris", subject="dan")["accessToken"]) == 401


def test_workspaces_one_only_reads_hide_none_of_the_others(people, workspace, django_assert_num_queries):
    rows = Workspace.objects.bulk_create(Workspace(name=f"a{number:03d}") for number in range(210))
    Membership.objects.bulk_create(Membership(user=people["dan"], workspace=each, role=Role.READER) for each in rows)
    with django_assert_num_queries(1):
        assert [each.name for each in workspaces_with(people["dan"], Permission.SCORE)] == ["lab"]
    assert workspaces_with(people["rita"], Permission.SCORE).count() == 0
