"""Who may see and do what: a walk over every URL of the console. A URL without an expectation fails here."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.admin.utils import quote
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse

from apps.accounts.models import PersonalToken, User
from apps.console.site import site
from apps.core.models import AuditRecord, Operation

STRANGERS = ("olga", "carl", "dan", "rita", "charlie", "staff")


def patterns():
    """Every pattern of the console as the resolver has it."""
    [console] = [
        each for each in get_resolver().url_patterns if "apps.console" in str(getattr(each, "urlconf_name", ""))
    ]
    found = {}

    def walk(resolver):
        for each in resolver.url_patterns:
            if hasattr(each, "url_patterns"):
                walk(each)
            else:
                found[each.name or str(each.pattern)] = each

    walk(console)
    return found


PATTERNS = patterns()
NAMES = sorted(name for name in PATTERNS if name != "console")

# what an administrator gets: (GET, an empty POST); 400 is the form that asks again, 405 a page that changes nothing
PAGE, LIST, ASK, DO, REFUSED = (200, 405), (200, 200), (200, 400), (200, 302), (200, 409)
EXPECTED = {
    "index": PAGE,
    "health": PAGE,
    "limits": PAGE,
    "limit": DO,
    "caches": PAGE,
    "caches-prune": ASK,
    "accounts_user_changelist": PAGE,
    "accounts_user_change": PAGE,
    "accounts_user_create": ASK,
    "accounts_user_password-link": (200, 200),
    "accounts_user_reset-two-factor": DO,
    "accounts_user_end-sessions": DO,
    "accounts_user_make-administrator": DO,
    "accounts_user_revoke-administrator": DO,
    "accounts_user_activate": DO,
    "accounts_user_deactivate": DO,
    "accounts_workspace_changelist": PAGE,
    "accounts_workspace_change": PAGE,
    "accounts_workspace_create": ASK,
    "accounts_workspace_give-role": ASK,
    "accounts_workspace_describe": ASK,
    "accounts_workspace_compute": DO,
    "accounts_membership_changelist": PAGE,
    "accounts_membership_change": PAGE,
    "accounts_membership_give-role": ASK,
    "accounts_membership_change-role": ASK,
    "accounts_membership_remove": DO,
    "accounts_personaltoken_changelist": PAGE,
    "accounts_personaltoken_change": PAGE,
    "accounts_personaltoken_revoke": DO,
    "endpoints_onlineendpoint_changelist": PAGE,
    "endpoints_onlineendpoint_change": PAGE,
    "endpoints_onlineendpoint_delete": ASK,
    "endpoints_onlinedeployment_changelist": PAGE,
    "endpoints_onlinedeployment_change": PAGE,
    "endpoints_onlinedeployment_delete": ASK,
    "compute_replica_changelist": PAGE,
    "compute_replica_change": PAGE,
    "compute_replica_restart": DO,
    "compute_replica_start": REFUSED,  # it is not stopped
    "compute_replica_stop": ASK,
    "core_operation_changelist": PAGE,
    "core_operation_change": PAGE,
    "core_operation_cancel": REFUSED,  # it has ended
    "registry_modelversion_changelist": PAGE,
    "registry_modelversion_change": PAGE,
    "builds_build_changelist": PAGE,
    "builds_build_change": PAGE,
    "builds_build_prune": ASK,
    "builds_build_remove": ASK,
    "batch_batchendpoint_changelist": PAGE,
    "batch_batchendpoint_change": PAGE,
    "batch_batchendpoint_delete": ASK,
    "batch_batchdeployment_changelist": PAGE,
    "batch_batchdeployment_change": PAGE,
    "batch_batchdeployment_delete": ASK,
    "batch_job_changelist": PAGE,
    "batch_job_change": PAGE,
    "batch_job_cancel": DO,
    "batch_job_delete": ASK,
    "batch_schedule_changelist": PAGE,
    "batch_schedule_change": PAGE,
    "batch_schedule_enable": DO,
    "batch_schedule_disable": DO,
    "batch_schedule_delete": ASK,
    "batch_cluster_changelist": PAGE,
    "batch_cluster_change": PAGE,
    "batch_cluster_shrink": DO,
    "batch_cluster_delete": ASK,
    "batch_node_changelist": PAGE,
    "batch_node_change": PAGE,
    "batch_node_stop": DO,
    "batch_host_changelist": PAGE,
    "batch_host_change": PAGE,
    "batch_host_forget": DO,  # it is lost
    "registry_dataversion_changelist": PAGE,
    "registry_dataversion_change": PAGE,
    "registry_dataversion_delete": ASK,
    "registry_componentversion_changelist": PAGE,
    "registry_componentversion_change": PAGE,
    "registry_componentversion_delete": ASK,
    "registry_datastore_changelist": PAGE,
    "registry_datastore_change": PAGE,
    "registry_datastore_delete": ASK,
    "compute_instancetype_changelist": PAGE,
    "compute_instancetype_change": PAGE,
    "compute_instancetype_create": ASK,
    "compute_instancetype_edit": ASK,
    "compute_instancetype_delete": REFUSED,  # it comes with Portway
    "compute_computetarget_changelist": PAGE,
    "compute_computetarget_change": PAGE,
    "compute_computetarget_edit": ASK,
    "core_auditrecord_changelist": PAGE,
    "core_auditrecord_change": PAGE,
    "core_auditrecord_export": (405, 400),
}
# what each verb needs to be carried out, so that a stranger's attempt would change something if it got through
SENT = {
    "caches-prune": {"confirm": "prune"},
    "limit": {"value": "7"},
    "accounts_user_create": {"username": "eve", "password": "a long password"},
    "accounts_workspace_create": {"name": "fresh", "owner": "1"},
    "endpoints_onlineendpoint_delete": {"confirm": "flowers"},
    "endpoints_onlinedeployment_delete": {"confirm": "flowers/blue"},
    "compute_replica_stop": {"reason": "it is slow"},
    "batch_batchendpoint_delete": {"confirm": "forests"},
    "batch_batchdeployment_delete": {"confirm": "forests/blue"},
    "batch_job_delete": {"confirm": "job-1"},
    "batch_schedule_delete": {"confirm": "nightly"},
    "batch_cluster_delete": {"confirm": "cpu"},
    "batch_node_stop": {"reason": "it is stuck"},
    "registry_dataversion_delete": {"confirm": "tiles:1"},
    "registry_componentversion_delete": {"confirm": "step:1"},
    "registry_datastore_delete": {"confirm": "lake"},
    "compute_instancetype_create": {"name": "huge", "cpu": "2", "memory": "2", "position": "1"},
    "compute_instancetype_edit": {"cpu": "2", "memory": "2", "position": "1"},
    "compute_computetarget_edit": {"overcommit_cpu": "2", "overcommit_memory": "2"},
    "accounts_workspace_compute": {"instances": "3"},
    "core_auditrecord_export": {"format": "csv"},
}


def address(name, world):
    ids = {
        "limit": "endpoints",
        "accounts_user": world["user"].pk,
        "accounts_workspace": world["workspace"].pk,
        "accounts_membership": world["membership"].pk,
        "accounts_personaltoken": world["token"].pk,
        "endpoints_onlineendpoint": world["endpoint"].pk,
        "endpoints_onlinedeployment": world["deployments"][0].pk,
        "compute_replica": world["replica"].pk,
        "core_operation": world["operation"].pk,
        "registry_modelversion": world["model"].pk,
        "builds_build": world["build"].pk,
        "batch_batchendpoint": world["job"].endpoint_id,
        "batch_batchdeployment": world["job"].deployment_id,
        "batch_job": world["job"].pk,
        "batch_schedule": world["schedule"].pk,
        "batch_cluster": world["job"].cluster_id,
        "batch_node": world["node"].pk,
        "batch_host": world["host"].pk,
        "registry_dataversion": world["data"].pk,
        "registry_componentversion": world["component"].pk,
        "registry_datastore": world["datastore"].pk,
        "compute_instancetype": "small",
        "compute_computetarget": "process",
        "core_auditrecord": world["record"].pk,
    }
    if "object_id" not in str(PATTERNS[name].pattern):
        return reverse(f"console:{name}")
    kind = name if name in ids else name.rsplit("_", 1)[0]
    return reverse(f"console:{name}", args=[quote(ids[kind])])


@pytest.fixture
def staff(people):
    """Django's `is_staff` alone opens nothing: the operator of an installation is `is_superuser`."""
    people["staff"] = User.objects.create_user(username="staff", password="a long password", is_staff=True)


def test_every_url_has_an_expectation():
    assert set(NAMES) == set(EXPECTED)
    assert set(SENT) <= set(NAMES)


def test_nothing_of_djangos_own_admin_is_there(it):
    for path in ("/admin/", "/console/login/", "/console/logout/", "/console/password_change/", "/console/jsi18n/"):
        assert it.get(path).status_code == 404
    for path in ("add/", "1/delete/", "1/history/"):
        assert it.get(f"/console/accounts/user/{path}").status_code == 404
    assert it.get("/console").url == "/console/"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_access(method, name, world, browser, staff, settings):
    url = address(name, world)
    response = getattr(browser("anonymous"), method)(url, SENT.get(name, {}))
    assert response.status_code == 302
    assert response.url.startswith("/accounts/login/?next=/console/")
    before = state()
    for who in STRANGERS:
        response = getattr(browser(who), method)(url, SENT.get(name, {}))
        assert response.status_code == 403, who
        assert b"To the start page" in response.content
    assert state() == before
    with transaction.atomic():
        response = getattr(browser("ada"), method)(url)
        transaction.set_rollback(True)
    expected = EXPECTED[name][0 if method == "get" else 1]
    assert response.status_code == expected, response.content.decode()[:3000]
    if method == "get" and expected == 200:
        policy = response.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "no-store" in response.headers["Cache-Control"]
        assert state() == before


def state():
    """Whatever a verb could have changed; each writes an audit record."""
    return (
        AuditRecord.objects.count(),
        Operation.objects.count(),
        PersonalToken.objects.count(),
        sorted(User.objects.values_list("username", "is_active", "is_superuser")),
    )


LISTS = sorted(name for name in NAMES if name.endswith("_changelist"))


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_filtered_only_by_what_their_filters_ask_for(name, it):
    """A lookup of anything else tells a hash letter by letter."""
    url = reverse(f"console:{name}")
    model = apps.get_model(*name.removesuffix("_changelist").split("_"))
    admin = site.get_model_admin(model)
    shown = {each for each in admin.list_filter if isinstance(each, str)}
    hidden = [each.name for each in model._meta.get_fields() if each.name not in shown]
    tried = [f"{field}{lookup}" for field in hidden for lookup in ("", "__startswith", "__gt", "__isnull")]
    tried += [f"{field}__startswith" for field in shown] + ["user__password__startswith", "actor__password__gt", "pk"]
    typed = {each.parameter_name for each in admin.list_filter if not isinstance(each, str)}
    for lookup in tried:
        if lookup not in typed:
            response = it.get(url, {lookup: "a"})
            assert response.status_code == 400, lookup


@pytest.mark.parametrize("name", LISTS)
def test_every_choice_of_a_filter_works(name, it):
    url = reverse(f"console:{name}")
    page = it.get(url)
    for spec in page.context["cl"].filter_specs:
        for choice in spec.choices(page.context["cl"]):
            assert it.get(url + choice["query_string"]).status_code == 200, choice["query_string"]


@pytest.mark.parametrize("field", ["password", "tokens__digest", "authenticator__data"])
def test_no_hash_can_be_read_off_a_list(field, it):
    for text in ("a", "pbkdf2", "md5$"):
        response = it.get("/console/accounts/user/", {f"{field}__startswith": text})
        assert (response.status_code, b"result_list" in response.content) == (400, False)
    assert it.get("/console/accounts/personaltoken/", {"digest__startswith": "a"}).status_code == 400


def test_posts_need_a_csrf_token(world, people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["ada"])
    for name in NAMES:
        response = client.post(address(name, world), SENT.get(name, {}))
        assert response.status_code in {403, 405}, name


def test_a_row_that_is_not_there_is_not_found(it):
    for path in ("accounts/user/999/", "accounts/user/x/", "core/operation/nonsense/", "limits/none/"):
        assert it.get(f"/console/{path}").status_code == 404, path


def test_the_rail_of_the_studio_leads_here_and_back(it, browser, people):
    assert b'href="/console/"' in it.get("/account/tokens").content
    assert b'href="/console/"' not in browser("olga").get("/account/tokens").content
    page = it.get("/console/").content.decode()
    assert 'href="/"' in page


def test_a_deactivated_administrator_is_out_at_once(world, people, browser):
    from apps.accounts import people as verbs
    from tests.factories import make_administrator

    other = make_administrator("bert")
    client = browser("ada")
    assert client.get("/console/").status_code == 200
    verbs.deactivate_user(user=people["ada"], actor=other)
    response = client.get("/console/")
    assert response.status_code == 302
    assert response.url.startswith("/accounts/login/")
    verbs.activate_user(user=people["ada"], actor=other)
    assert client.get("/console/").status_code == 302  # the session itself is gone
