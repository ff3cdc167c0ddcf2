"""What the console's pages show: lists with bounded queries, hostile text as text, verbs that call the domain."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts import domain
from apps.accounts.models import Membership, PersonalToken, User, Workspace
from apps.builds.models import Build
from apps.compute import domain as compute
from apps.compute.models import ComputeTarget, InstanceType, Replica, Reservation, WorkspaceCompute
from apps.console import base, html
from apps.core import audit
from apps.core.models import AuditRecord, Limit, Operation
from tests.factories import (
    make_batch_deployment,
    make_build,
    make_cluster,
    make_component,
    make_data,
    make_datastore,
    make_deployment,
    make_endpoint,
    make_host,
    make_job,
    make_model,
    make_node,
    make_operation,
    make_schedule,
)

LISTS = (
    "accounts/user",
    "accounts/workspace",
    "accounts/membership",
    "accounts/personaltoken",
    "endpoints/onlineendpoint",
    "endpoints/onlinedeployment",
    "compute/replica",
    "core/operation",
    "registry/modelversion",
    "registry/dataversion",
    "registry/datastore",
    "registry/componentversion",
    "batch/batchendpoint",
    "batch/batchdeployment",
    "batch/job",
    "batch/schedule",
    "batch/cluster",
    "batch/node",
    "batch/host",
    "builds/build",
    "compute/instancetype",
    "compute/computetarget",
    "core/auditrecord",
)


def queries(client, path):
    client.get(path)  # warm: content types, the disk's cache
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert client.get(path).status_code == 200
    return len(found)


def grow(name, people):
    """One more of everything, in a workspace of its own."""
    user = User.objects.create_user(username=name)
    workspace = Workspace.objects.create(name=name)
    Membership.objects.create(user=user, workspace=workspace, role="owner")
    domain.create_token(user=user, name=name)
    model = make_model(workspace, name)
    endpoint = make_endpoint(workspace, name, created_by=user)
    make_deployment(endpoint, "blue", model=model)
    make_operation(endpoint, state="succeeded", actor=user)
    make_build()
    batch = make_batch_deployment(workspace, f"{name}-b", model=model, cluster=make_cluster(workspace, name))
    job = make_job(batch, created_by=user)
    make_node(batch.cluster, f"{name}-1", job=job, host=make_host(name).name)
    make_schedule(batch.endpoint, modified_by=user, last_job=job, last_at=job.started_at)
    make_data(workspace, created_by=user)
    make_datastore(workspace, created_by=user)
    make_component(workspace, created_by=user)
    audit.record(user, "test.done", workspace=name, target=name)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_asks_as_often_for_three_rows_as_for_one(name, it, people):
    grow("first", people)
    path = f"/console/{name}/?q=first" if name in {"accounts/user", "accounts/workspace"} else f"/console/{name}/"
    one = queries(it, path)
    for other in ("first2", "first3"):
        grow(other, people)
    assert queries(it, path) == one
    assert one < 20


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_hostile_text_is_shown_as_text_everywhere(it, world, people):
    """Names that rules forbid today may be in a database of yesterday."""
    User.objects.filter(username="dan").update(username=HOSTILE[:150], email=HOSTILE, first_name=HOSTILE)
    Workspace.objects.filter(name="lab").update(display_name=HOSTILE, description=HOSTILE)
    PersonalToken.objects.update(name=HOSTILE[:60], hint="<b>")
    endpoint, deployment = world["endpoint"], world["deployments"][0]
    type(endpoint).objects.update(name=HOSTILE[:32], error={"message": HOSTILE, "fault": "user", "code": HOSTILE})
    type(deployment).objects.filter(pk=deployment.pk).update(name=HOSTILE[:32], instance_type=HOSTILE[:60])
    type(world["model"]).objects.update(version=HOSTILE, source=HOSTILE)
    Replica.objects.update(isolation=HOSTILE[:60], reason={"message": HOSTILE, "fault": "user", "code": "x"})
    Operation.objects.update(target=HOSTILE, workspace=HOSTILE, kind=HOSTILE[:64])
    AuditRecord.objects.update(action=HOSTILE[:64], target=HOSTILE, workspace=HOSTILE, detail={HOSTILE: HOSTILE})
    type(world["build"]).objects.update(requirements=HOSTILE, lock=HOSTILE, log=HOSTILE, python="<b>")
    job = world["job"]
    for row in (job.endpoint, job.deployment):
        type(row).objects.filter(pk=row.pk).update(name=HOSTILE[:32], error={"message": HOSTILE, "fault": "user"})
    type(job).objects.update(display_name=HOSTILE, endpoint_name=HOSTILE[:32], error={"message": HOSTILE})
    type(job.cluster).objects.update(name=HOSTILE[:32], instance_type=HOSTILE, waiting={"message": HOSTILE})
    type(world["node"]).objects.update(name=HOSTILE[:40], host=HOSTILE)
    type(world["host"]).objects.update(name=HOSTILE)
    type(world["schedule"]).objects.update(name=HOSTILE, cron=HOSTILE, time_zone="<b>", last_error={"message": HOSTILE})
    type(world["data"]).objects.update(version=HOSTILE, uri=HOSTILE)
    type(world["component"]).objects.update(version=HOSTILE, display_name=HOSTILE)
    type(world["datastore"]).objects.update(name=HOSTILE, settings={"bucketName": HOSTILE, "prefix": HOSTILE})
    pages = [f"/console/{name}/" for name in LISTS] + ["/console/", "/console/health/", "/console/caches/"]
    pages += [f"/console/{name}/?q={HOSTILE}&who={HOSTILE}" for name in LISTS]
    pages += ["/console/builds/build/prune/", "/console/core/auditrecord/?action=%3Cscript%3E&since=%3Cb%3E"]
    for name in LISTS:
        links = re.findall(rf'href="(/console/{name}/[^/"?]+/)"', it.get(f"/console/{name}/").content.decode())
        pages += [link for link in links if link.split("/")[-2] not in {"create", "prune", "give-role", "export"}][:2]
    for page in pages:
        response = it.get(page)
        assert response.status_code == (400 if "who=" in page else 200), page
        text = response.content.decode()
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page


def test_no_secret_is_ever_on_a_page(it, world, people):
    from apps.gateway.domain import keys_of

    _, token = domain.create_token(user=people["dan"], name="laptop")
    digests = set(PersonalToken.objects.values_list("digest", flat=True))
    secrets = {token, "AKIA1", "hush-hush", *digests, *keys_of("flowers").values(), people["dan"].password}
    for name in LISTS:
        listed = it.get(f"/console/{name}/").content.decode()
        for link in re.findall(rf'href="(/console/{name}/[^/"?]+/)"', listed):
            shown = it.get(link).content.decode()
            assert not [each for each in secrets if each in shown or each in listed]


# ---- verbs, as the browser sends them


def test_adding_a_user_without_a_password_shows_a_link_once(it):
    response = it.post("/console/accounts/user/create/", {"username": "eve"})
    assert "no-store" in response.headers["Cache-Control"]
    link = re.search(r"http://testserver(/accounts/password/reset/key/[^<\"]+)", response.content.decode()).group(1)
    assert link not in it.get("/console/core/auditrecord/").content.decode()
    assert AuditRecord.objects.filter(action="user.password-link", actor__username="ada").count() == 1


def test_a_weak_password_is_said_beside_its_field(it):
    response = it.post("/console/accounts/user/create/", {"username": "eve", "password": "short"})
    assert response.status_code == 400
    assert b"too short" in response.content
    assert not User.objects.filter(username="eve").exists()


def test_the_last_owner_is_named_and_another_can_be_given(it, people, workspace):
    row = Membership.objects.get(user=people["olga"])
    url = f"/console/accounts/membership/{row.pk}/remove/"
    response = it.post(url, {})
    assert response.status_code == 409
    assert "olga is the only owner of lab" in response.content.decode()
    assert it.post(url, {"successor": people["dan"].pk}).url == "/console/accounts/membership/"
    assert Membership.objects.get(user=people["dan"]).role == "owner"


def test_a_name_must_be_typed_exactly_before_an_endpoint_goes(it, world):
    url = f"/console/endpoints/onlineendpoint/{world['endpoint'].pk}/delete/"
    asked = it.get(url).content.decode()
    assert "flowers/blue" in asked
    assert "flowers/green" in asked
    assert it.post(url, {"confirm": "Flowers"}).status_code == 400
    assert Operation.objects.filter(kind="online-endpoint.delete").count() == 0
    response = it.post(url, {"confirm": "flowers"})
    operation = Operation.objects.get(kind="online-endpoint.delete")
    assert response.url == html.address(operation)
    timeline = it.get(response.url).content.decode()
    assert "Route" in timeline
    assert 'hx-trigger="every 2s"' in timeline


def test_a_deployment_with_traffic_cannot_be_deleted_and_says_why(it, world):
    url = f"/console/endpoints/onlinedeployment/{world['deployments'][0].pk}/delete/"
    assert "It takes traffic" in it.get(url).content.decode()
    response = it.post(url, {"confirm": "flowers/blue"})
    assert response.status_code == 409
    assert b"receives 90 %" in response.content


def test_prune_shows_the_list_and_takes_exactly_that(it, world):
    other = make_build()
    page = it.get("/console/builds/build/prune/?unused_days=10").content.decode()
    chosen = re.search(r'name="chosen" value="([^"]*)"', page).group(1).split()
    assert set(chosen) == {world["build"].pk, other.pk}
    response = it.post("/console/builds/build/prune/?unused_days=10", {"chosen": other.pk, "confirm": "prune"})
    operation = Operation.objects.get(kind="environments.prune")
    assert operation.payload == {"keys": [other.pk]}
    assert it.get(response.url).status_code == 200
    assert "installation" in it.get("/console/core/operation/").content.decode()


def test_a_limit_is_changed_and_put_back(it):
    url = "/console/limits/endpoints/"
    assert it.post(url, {"value": "7"}).url == "/console/limits/"
    assert "changed" in it.get("/console/limits/").content.decode()
    assert it.post(url, {"value": "0"}).status_code == 400
    it.post(url, {"value": ""})
    assert not Limit.objects.exists()


def test_an_operation_that_cannot_be_canceled_says_so(it, world):
    live = make_operation(world["endpoint"], "online-endpoint.update", lock="other")
    page = it.get(f"/console/core/operation/{live.pk}/").content.decode()
    assert "Operations of this kind cannot be canceled" in page
    can = make_operation(world["endpoint"], "online-deployment.create", lock="another")
    assert it.post(f"/console/core/operation/{can.pk}/cancel/").status_code == 302
    can.refresh_from_db()
    assert can.cancel_requested


def test_filters_and_search_narrow_a_list(it, world):
    page = it.get("/console/compute/replica/?state__exact=held").content.decode()
    assert "Nothing matches." in page
    assert "flowers/blue" in it.get("/console/compute/replica/?q=flowers").content.decode()
    audit.record(None, "limit.set", workspace="", target="limit/endpoints")
    found = it.get("/console/core/auditrecord/?action=limit").content.decode()
    assert "limit/endpoints" in found
    assert "online-endpoint/flowers" not in found
    assert "Nothing matches." in it.get("/console/core/auditrecord/?since=2999-01-01T00:00").content.decode()
    assert "Nothing matches." in it.get("/console/core/auditrecord/?until=nonsense").content.decode()
    assert "Nothing matches." in it.get("/console/core/auditrecord/?request=abc").content.decode()


def test_the_overview_counts_what_there_is(it, world):
    page = it.get("/console/").content.decode()
    assert "A part is down" in page
    for part in ("web", "database", "broker", "worker", "controller", "gateway", "mlflow"):
        assert f">{part}</span>" in page
    make_operation(world["endpoint"], state="failed", lock="x", error={"message": "the disk is full"})
    assert "the disk is full" in it.get("/console/").content.decode()


def test_the_isolation_level_says_what_a_better_one_needs(it, settings):
    settings.DEFAULT_DRIVER = "process"
    page = it.get("/console/health/").content.decode()
    assert "Isolation of driver process" in page
    assert "sees only its own files" in page


def test_every_driver_tells_its_isolation_and_one_that_cannot_says_why(it, settings, tmp_path):
    settings.DOCKER_URL = f"unix://{tmp_path}/none.sock"
    compute.driver.cache_clear()
    page = it.get("/console/health/").content.decode()
    compute.driver.cache_clear()
    assert "Isolation of driver fake" in page
    assert "Isolation of driver docker" in page
    assert "The container engine at unix:" in page


def test_lists_offer_the_verbs_that_fit_a_row(it, world):
    replica = world["replica"]
    page = it.get("/console/compute/replica/").content.decode()
    assert f'href="{html.address(replica, "restart")}" aria-label="Restart {replica.name}"' in page
    assert f'href="{html.address(replica, "start")}"' not in page
    Replica.objects.filter(pk=replica.pk).update(state="held")
    page = it.get("/console/compute/replica/").content.decode()
    assert f'href="{html.address(replica, "start")}"' in page
    assert f'href="{html.address(replica, "stop")}"' not in page
    can = make_operation(world["endpoint"], "online-deployment.create", lock="a")
    cannot = make_operation(world["endpoint"], "online-endpoint.update", lock="b")
    page = it.get("/console/core/operation/").content.decode()
    assert html.address(can, "cancel") in page
    assert html.address(cannot, "cancel") not in page


def test_a_long_audit_trail_is_counted_only_so_far(it, people, monkeypatch):
    for number in range(8):
        audit.record(people["ada"], "thing.make", workspace="lab", target=f"thing/{number}")
    monkeypatch.setattr(base, "COUNTED", 5)
    with CaptureQueriesContext(connection) as found:
        page = it.get("/console/core/auditrecord/?workspace=lab").content.decode()
    assert "more than 5 entries" in page
    counts = [each["sql"] for each in found if "COUNT(" in each["sql"] and "core_auditrecord" in each["sql"]]
    assert counts
    assert all("LIMIT 6" in each for each in counts)
    assert "6 entries" not in it.get("/console/core/auditrecord/?target=thing/7").content.decode()


@pytest.mark.parametrize("field", ["workspace", "actor"])
def test_the_newest_records_of_a_workspace_or_a_person_come_from_an_index(db, field):
    users = User.objects.bulk_create(User(username=f"user{number}") for number in range(50))
    AuditRecord.objects.bulk_create(
        AuditRecord(action="thing.make", workspace=f"lab{number % 50}", actor=users[number % 50])
        for number in range(5000)
    )
    query = {"workspace": "lab7", "actor": users[7]}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE core_auditrecord")  # a planner that knows how much there is
    plan = AuditRecord.objects.filter(**{field: query[field]}).order_by("-at", "-pk")[:50].explain()
    assert re.search(rf"core_auditr\w*_{field[:5]}", plan)  # of that column, with the time or without


# ---- compute targets, sizes and quotas


def test_a_target_is_changed_and_its_page_says_what_is_reserved(it, world):
    held = {"target": "process", "cpu_milli": 1500, "mem_bytes": 2**30, "gpus": 0, "instances": 3}
    Reservation.objects.create(owner_key="flowers/blue", workspace=world["workspace"], **held)
    sent = {"cpu": "4", "memory": "8", "overcommit_cpu": "1", "overcommit_memory": "1.5"}
    response = it.post("/console/compute/computetarget/process/edit/", sent, follow=True)
    page = response.content.decode()
    assert "1.5 cores of 4 cores" in page
    assert "1 GiB of 12 GiB" in page
    assert "flowers/blue" in page
    assert "style=" not in page
    row = ComputeTarget.objects.get(pk="process")
    assert (row.cpu_milli, row.mem_bytes, row.gpus, row.enabled) == (4000, 8 * 2**30, None, True)
    assert AuditRecord.objects.filter(action="compute-target.update", actor__username="ada").count() == 1
    listed = it.get("/console/compute/computetarget/").content.decode()
    assert "memory \u00d7 1.5" in listed
    assert it.post("/console/compute/computetarget/process/edit/", sent | {"overcommit_cpu": "0"}).status_code == 400
    it.post("/console/compute/computetarget/process/edit/", sent | {"off": "on", "cpu": ""})
    row.refresh_from_db()
    assert (row.enabled, row.cpu_milli) == (False, None)


def test_a_workspace_gets_a_target_and_a_quota(it, world):
    workspace = world["workspace"]
    held = {"target": "fake", "cpu_milli": 1500, "mem_bytes": 2**30, "gpus": 0, "instances": 3}
    Reservation.objects.create(owner_key="flowers/blue", workspace=workspace, **held)
    url = f"/console/accounts/workspace/{workspace.pk}/compute/"
    page = it.post(url, {"target": "process", "instances": "3", "cpu": "2.5"}, follow=True).content.decode()
    assert "1.5 cores of 2.5 cores" in page
    assert "3 of 3" in page
    assert ">full<" in page
    row = WorkspaceCompute.objects.get()
    assert (row.target, row.cpu_milli, row.mem_bytes, row.instances) == ("process", 2500, None, 3)
    assert 'value="2.5"' in it.get(url).content.decode()
    assert it.post(url, {"target": "nowhere"}).status_code == 400
    row.target = "gone"
    row.save()
    assert it.post(url, {"target": "gone"}).status_code == 400  # the domain no longer knows it, and says so
    record = AuditRecord.objects.get(action="workspace.compute")
    assert (record.workspace, record.actor.username) == ("lab", "ada")


def test_an_instance_type_has_a_price_gpus_isolation_and_can_be_hidden(it, world):
    sent = {"name": "big", "cpu": "2", "memory": "4", "position": "1", "gpus": "1", "price": "0.125"}
    page = it.post("/console/compute/instancetype/create/", sent | {"isolation": "container"}, follow=True)
    assert "0.125 USD" in page.content.decode()
    row = InstanceType.objects.get(name="big")
    assert (row.gpus, str(row.price_hour), row.isolation, row.enabled) == (1, "0.1250", "container", True)
    edit = "/console/compute/instancetype/big/edit/"
    assert 'value="0.1250"' in it.get(edit).content.decode()
    it.post(edit, {"cpu": "2", "memory": "4", "position": "1", "hidden": "on"})
    row.refresh_from_db()
    assert (row.gpus, row.price_hour, row.isolation, row.enabled) == (0, 0, "", False)
    assert it.post(edit, {"cpu": "2", "memory": "4", "position": "1", "price": "-1"}).status_code == 400
    type(world["deployments"][0]).objects.update(instance_type="BIG")
    assert it.post("/console/compute/instancetype/big/delete/").status_code == 409


def test_images_stand_beside_environments(it, world):
    image = Build.objects.create(
        key="c" * 64,
        kind="image",
        driver="docker",
        state="succeeded",
        image="portway/abc/env:123",
        image_id="sha256:" + "d" * 64,
        size_bytes=2**30,
        last_used_at=timezone.now() - timedelta(days=60),
    )
    shown = it.get("/console/builds/build/").content.decode()
    assert "portway/abc/env:123" in shown
    assert "Image, built here" in shown
    one = it.get(html.address(image)).content.decode()
    assert "sha256:dddd" in one
    page = it.get("/console/builds/build/prune/?unused_days=30").content.decode()
    assert "portway/abc/env:123" in page
    assert image.pk in re.search(r'name="chosen" value="([^"]*)"', page).group(1)
