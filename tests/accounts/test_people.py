"""Verbs on people: who may be locked out, what ends with it, and that nobody is left without an owner."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.accounts import domain, people
from apps.accounts.models import Membership, PersonalToken, User, Workspace
from apps.core.errors import Problem
from apps.core.models import AuditRecord
from tests.factories import make_administrator


@pytest.fixture
def ada(db):
    return make_administrator()


def actions():
    return list(AuditRecord.objects.order_by("pk").values_list("action", flat=True))


def code(function, **arguments):
    with pytest.raises(Problem) as met:
        function(**arguments)
    return met.value.code


def test_an_account_without_a_password_is_opened_by_a_link_that_works_once(ada):
    eve = people.create_user(username="eve", email="eve@example.org", actor=ada)
    assert (eve.has_usable_password(), eve.is_staff, eve.is_superuser) == (False, False, False)
    link = people.password_link(user=eve, actor=ada)
    client = Client()
    form = client.get(link, follow=True)
    words = {"password1": "a good long one", "password2": "a good long one"}
    assert client.post(form.redirect_chain[-1][0], words).status_code == 302
    eve.refresh_from_db()
    assert eve.check_password("a good long one")
    again = Client().get(link, follow=True)
    assert not again.redirect_chain or "password1" not in again.content.decode()
    assert actions() == ["user.create", "user.password-link"]
    assert not any(part in str(AuditRecord.objects.values()) for part in link.split("-")[-1:])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"username": "ada"}, "exists"),
        ({"username": "ADA"}, "exists"),
        ({"username": "e ve"}, "bad-name"),
        ({"username": ""}, "bad-name"),
        ({"username": "eve", "email": "nonsense"}, "bad-name"),
        ({"username": "eve", "password": "short"}, "weak-password"),
        ({"username": "eveline99", "password": "eveline99"}, "weak-password"),
    ],
)
def test_a_bad_account_is_refused_and_leaves_nothing(ada, values, expected):
    assert code(people.create_user, **values, actor=ada) == expected
    assert User.objects.count() == 1
    assert actions() == []


def test_deactivating_ends_sessions_and_tokens_at_once(ada, people_with_roles):
    dan = people_with_roles["dan"]
    client, other = Client(), Client()
    client.force_login(dan)
    other.force_login(ada)
    _, token = domain.create_token(user=dan, name="laptop")
    people.deactivate_user(user=dan, actor=ada)
    assert client.get("/w/lab/endpoints").status_code == 302
    assert client.get("/api/v1/workspaces", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert not PersonalToken.objects.filter(user=dan).exists()
    assert Session.objects.count() == 1  # Ada's
    people.activate_user(user=dan, actor=ada)
    assert client.get("/w/lab/endpoints").status_code == 302
    assert Membership.objects.filter(user=dan).exists()
    assert actions()[-2:] == ["user.deactivate", "user.activate"]
    assert AuditRecord.objects.get(action="user.deactivate").detail == {"sessions": 1, "tokens": 1}


@pytest.fixture
def people_with_roles(people):
    return people


def test_the_last_administrator_stays(ada):
    assert code(people.deactivate_user, user=ada, actor=ada) == "last-administrator"
    assert code(people.set_administrator, user=ada, administrator=False, actor=ada) == "last-administrator"
    bert = make_administrator("bert")
    assert code(people.deactivate_user, user=ada, actor=ada) == "own-account"
    assert code(people.set_administrator, user=ada, administrator=False, actor=ada) == "own-account"
    people.set_administrator(user=ada, administrator=False, actor=bert)
    ada.refresh_from_db()
    assert (ada.is_superuser, ada.is_staff) == (False, False)
    assert code(people.deactivate_user, user=bert, actor=ada) == "last-administrator"


def test_a_deactivated_account_gets_neither_a_link_nor_administration(ada, people_with_roles):
    dan = people_with_roles["dan"]
    people.deactivate_user(user=dan, actor=ada)
    dan.refresh_from_db()
    assert code(people.password_link, user=dan, actor=ada) == "conflict"
    assert code(people.set_administrator, user=dan, administrator=True, actor=ada) == "conflict"


def test_the_last_owner_goes_only_when_another_is_named(ada, people_with_roles, workspace):
    olga, dan, rita = (people_with_roles[each] for each in ("olga", "dan", "rita"))
    for verb in (domain.remove_member, people.deactivate_user):
        where = {"workspace": workspace} if verb is domain.remove_member else {}
        assert code(verb, user=olga, actor=ada, **where) == "last-owner"
        assert code(verb, user=olga, actor=ada, successor=olga, **where) == "last-owner"
    assert code(domain.set_role, workspace=workspace, user=olga, role="reader", actor=ada) == "last-owner"
    people.deactivate_user(user=rita, actor=ada)
    rita.refresh_from_db()
    assert code(people.deactivate_user, user=olga, actor=ada, successor=rita) == "last-owner"
    people.deactivate_user(user=olga, actor=ada, successor=dan)
    assert Membership.objects.get(user=dan, workspace=workspace).role == "owner"
    assert Membership.objects.get(user=olga, workspace=workspace).role == "owner"  # so that she can be let in again
    domain.remove_member(workspace=workspace, user=olga, actor=ada)
    assert not Membership.objects.filter(user=olga).exists()


def test_an_owner_who_cannot_sign_in_does_not_count(ada, people_with_roles, workspace):
    olga, dan = people_with_roles["olga"], people_with_roles["dan"]
    domain.set_role(workspace=workspace, user=dan, role="owner", actor=ada)
    User.objects.filter(pk=dan.pk).update(is_active=False)
    assert code(domain.remove_member, workspace=workspace, user=olga, actor=ada) == "last-owner"


def test_two_factor_is_reset_with_every_session(ada, people_with_roles):
    from allauth.mfa.models import Authenticator

    dan = people_with_roles["dan"]
    Authenticator.objects.create(user=dan, type="totp", data={"secret": "x"})
    client = Client()
    client.force_login(dan)
    people.reset_two_factor(user=dan, actor=ada)
    assert not Authenticator.objects.exists()
    assert client.get("/account/tokens").status_code == 302


def race(*functions):
    """Run them at the same moment; what each returned or raised."""
    barrier, found = threading.Barrier(len(functions)), []

    def one(function):
        try:
            barrier.wait(5)
            found.append(function() or "done")
        except Problem as problem:
            found.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(each,)) for each in functions]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    return sorted(found)


@pytest.mark.django_db(transaction=True)
def test_two_administrators_cannot_remove_each_other():
    ada, bert = make_administrator("ada"), make_administrator("bert")
    found = race(
        lambda: people.set_administrator(user=ada, administrator=False, actor=bert),
        lambda: people.deactivate_user(user=bert, actor=ada),
    )
    assert found == ["done", "last-administrator"]
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_owners_cannot_leave_together():
    ada = make_administrator()
    workspace = Workspace.objects.create(name="lab")
    two = [User.objects.create_user(username=name) for name in ("olga", "otto")]
    for each in two:
        Membership.objects.create(user=each, workspace=workspace, role="owner")
    found = race(*[lambda user=each: domain.remove_member(workspace=workspace, user=user, actor=ada) for each in two])
    assert found == ["done", "last-owner"]
    assert Membership.objects.filter(workspace=workspace, role="owner").count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_owner_cannot_leave_while_the_other_is_deactivated():
    ada = make_administrator()
    workspace = Workspace.objects.create(name="lab")
    olga, otto = [User.objects.create_user(username=name) for name in ("olga", "otto")]
    for each in (olga, otto):
        Membership.objects.create(user=each, workspace=workspace, role="owner")
    found = race(
        lambda: domain.remove_member(workspace=workspace, user=olga, actor=ada),
        lambda: people.deactivate_user(user=otto, actor=ada),
    )
    assert found == ["done", "last-owner"]
    owners = Membership.objects.filter(workspace=workspace, role="owner", user__is_active=True)
    assert owners.count() == 1


@pytest.mark.django_db(transaction=True)
def test_sessions_are_read_before_the_transaction_and_expired_ones_not_at_all(monkeypatch):
    ada, eve = make_administrator("ada"), make_administrator("eve")
    old, new, other = Client(), Client(), Client()
    for client, user in ((old, eve), (new, eve), (other, ada)):
        client.force_login(user)
    Session.objects.filter(pk=old.session.session_key).update(expire_date=timezone.now() - timedelta(days=1))
    read, real = [], Session.get_decoded

    def decode(session):
        read.append((session.pk, connection.in_atomic_block))
        return real(session)

    monkeypatch.setattr(Session, "get_decoded", decode)
    keys = {new.session.session_key, other.session.session_key}
    read.clear()
    people.deactivate_user(user=eve, actor=ada)
    assert set(read) == {(key, False) for key in keys}
    assert AuditRecord.objects.get(action="user.deactivate").detail["sessions"] == 1
    assert people.clear_sessions() == 1
    assert [each.pk for each in Session.objects.all()] == [other.session.session_key]
