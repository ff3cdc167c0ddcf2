"""Whatever is put into the fields of an environment: a reasoned 400, nothing made, never a 5xx."""

import copy

import pytest
from rest_framework.test import APIClient

from apps.registry.models import Environment, EnvironmentVersion

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab"
NASTY = [None, True, -1, 0, 1.5, 10**30, "", " ", "x" * 70_000, "\x00", "a\nb", "../..", [], [1], {}, {"a": {"b": 1}}]
ROUTES = {f"{name}Route": {"port": 8080, "path": "/ok"} for name in ("liveness", "readiness", "scoring")}
GOOD = {"image": "team/image:1", "inferenceConfig": ROUTES}
PLACES = [
    ("image",),
    ("condaFile",),
    ("requirements",),
    ("build",),
    ("build", "contextUri"),
    ("build", "dockerfilePath"),
    ("osType",),
    ("inferenceConfig",),
    *(("inferenceConfig", route) for route in ROUTES),
    *(("inferenceConfig", route, each) for route in ROUTES for each in ("port", "path")),
    ("inferenceConfig", "startupRoute"),
    ("description",),
    ("tags",),
    ("properties",),
    ("isAnonymous",),
    ("nonsense",),
]


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


def put(api, properties, name="e"):
    return api.put(f"{SHORT}/environments/{name}/versions/1", {"properties": properties}, format="json")


def with_value(place, value):
    body = copy.deepcopy(GOOD)
    at = body
    for key in place[:-1]:
        at = at.setdefault(key, {})
    at[place[-1]] = value
    return body


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_every_field_with_every_kind_of_value(api, workspace, place):
    for value in NASTY:
        answer = put(api, with_value(place, value))
        assert answer.status_code in {200, 201, 400}, (value, answer.content[:300])
        if answer.status_code == 400:
            error = answer.json()["error"]
            assert error["message"], value
            assert not Environment.objects.exists(), value
        else:
            EnvironmentVersion.objects.all().delete()
            Environment.objects.all().delete()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("inferenceConfig", "scoringRoute", "port"), 0),
        (("inferenceConfig", "scoringRoute", "port"), 65_536),
        (("inferenceConfig", "scoringRoute", "path"), "score"),
        (("inferenceConfig", "scoringRoute", "path"), "/a b"),
        (("inferenceConfig", "scoringRoute", "path"), "/a?b=c"),
        (("inferenceConfig", "scoringRoute", "path"), "/" + "x" * 600),
        (("inferenceConfig", "readinessRoute"), {"port": 1}),
        (("inferenceConfig",), {"scoringRoute": {"port": 1, "path": "/"}}),
        (("image",), "UPPER/Case"),
        (("image",), "a b"),
        (("image",), "-rf"),
        (("build",), {"contextUri": "file:///etc"}),
        (("condaFile",), "dependencies: [python=3.11]\n" + "x" * 1_000_000),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_is_certainly_wrong_is_refused_with_its_place(api, workspace, place, value):
    answer = put(api, with_value(place, value))
    assert answer.status_code in {400, 413}, answer.content[:300]
    assert not Environment.objects.exists()


def test_routes_without_an_image_are_refused(api, workspace):
    answer = put(api, {"requirements": "six", "inferenceConfig": ROUTES})
    assert answer.status_code == 400
    assert "image" in answer.json()["error"]["message"]
    assert not Environment.objects.exists()
