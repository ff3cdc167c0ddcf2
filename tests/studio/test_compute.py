"""What a workspace's people see of sizes, prices, capacity and quotas."""

from __future__ import annotations

from decimal import Decimal

import pytest

from apps.compute import domain as compute
from apps.compute.models import InstanceType, Reservation
from apps.endpoints.models import OnlineDeployment
from apps.studio.forms import DeployForm, DeploymentEditForm
from tests.factories import make_deployment

pytestmark = pytest.mark.django_db(transaction=True)
HOSTILE = "<script>alert(1)</script>"


def text(response):
    return " ".join(response.content.decode().split())


def quota(workspace, **values):
    none = dict.fromkeys(("cpu_milli", "mem_bytes", "gpus", "instances"))
    return compute.save_workspace_compute(workspace=workspace, actor=None, **({"target": ""} | none | values))


@pytest.fixture
def priced(world):
    InstanceType.objects.filter(name="small").update(price_hour=Decimal("0.125"))
    return world


def test_everybody_of_a_workspace_sees_target_quota_and_price(priced, workspace, browser):
    quota(workspace, target="process", cpu_milli=4000, instances=2)
    Reservation.objects.create(
        owner_key="flowers/blue", workspace=workspace, target="process", cpu_milli=1500, mem_bytes=2**30, instances=2
    )
    for who in ("olga", "dan", "rita"):
        page = text(browser(who).get("/w/lab/compute"))
        assert "Local processes" in page
        assert "1.5 cores of 4 cores" in page
        assert "2 of 2" in page
        assert "0.25 USD" in page  # two deployments of one instance
        assert "182.50 USD" in page
        assert "0 of the quota of instances free" in page
        assert "style=" not in page


def test_a_deployment_and_its_endpoint_say_what_an_hour_costs(priced, browser):
    OnlineDeployment.objects.filter(name="blue").update(instance_count=3)
    client = browser("dan")
    assert "0.375 USD" in text(client.get("/w/lab/endpoints/flowers/deployments/blue"))
    page = text(client.get("/w/lab/endpoints/flowers"))
    assert "0.50 USD" in page
    assert "about 365.00 USD a month" in page
    InstanceType.objects.update(price_hour=0)
    assert "USD" not in text(client.get("/w/lab/endpoints/flowers"))


def test_resources_of_its_own_are_shown(world, browser):
    OnlineDeployment.objects.filter(name="blue").update(resources={"limits": {"cpu": "500m", "memory": HOSTILE}})
    page = text(browser("dan").get("/w/lab/endpoints/flowers/deployments/blue"))
    assert "cpu 500m" in page
    assert HOSTILE not in page
    edit = text(browser("dan").get("/w/lab/endpoints/flowers/deployments/blue/edit"))
    assert "containerResourceLimits" in edit
    assert HOSTILE not in edit


def test_a_size_that_does_not_fit_is_greyed_out_with_the_reason(priced, workspace, browser):
    quota(workspace, cpu_milli=1000)
    page = text(browser("dan").get("/w/lab/create/deployment"))
    assert "1 CPU · 1 GiB" in page
    assert "0.125 USD an hour" in page
    assert "1 core of the quota of CPU free" in page
    form = DeployForm(workspace=workspace)
    assert "medium" in form.fields["instance_type"].widget.reasons
    assert "small" not in form.fields["instance_type"].widget.reasons
    assert form.initial["instance_type"] == "small"
    assert page.count(" disabled") >= 1


def test_what_a_deployment_has_can_be_kept(world, workspace, browser):
    blue = OnlineDeployment.objects.get(name="blue")
    quota(workspace, cpu_milli=0)
    InstanceType.objects.filter(name="small").update(enabled=False)
    form = DeploymentEditForm(workspace=workspace, current=blue)
    field = form.fields["instance_type"]
    assert "small" in {each.name for each in field.queryset}
    assert "small" not in field.widget.reasons
    assert "small" not in {each.name for each in DeployForm(workspace=workspace).fields["instance_type"].queryset}


def test_a_refusal_is_shown_where_it_can_be_mended(world, workspace, browser):
    quota(workspace, instances=1)
    make_deployment(world["endpoint"], "red")
    response = browser("dan").post("/w/lab/endpoints/flowers/deployments/red", {"instance_count": 2})
    assert response.status_code == 409
    assert "The quota of workspace lab does not allow it" in text(response)
    assert OnlineDeployment.objects.get(name="red").instance_count == 1
