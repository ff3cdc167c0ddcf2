"""The renderer against checked-in files and its own rules, and the folded result against `envoy --mode validate`.

PORTWAY_WRITE_GOLDEN=1 pytest tests/gateway/test_render.py
writes the golden files anew; read the diff before committing it.
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from apps.gateway.certificates import ensure_certificates
from apps.gateway.envoy import (
    Deployment,
    Endpoint,
    Front,
    KeyAuth,
    OpenAuth,
    TokenAuth,
    check,
    envoy_argv,
    envoy_binary,
    fold,
    render,
    render_bootstrap,
    render_clusters,
    render_limits,
    render_routes,
)
from apps.gateway.envoy.routes import UPLOADS

GOLDEN = Path(__file__).parent / "golden"
RUN = Path("/run/portway")
JWKS = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            "kid": "golden",
            "alg": "ES256",
            "use": "sig",
        }
    ]
}
FRONT = Front(
    xds=RUN / "xds",
    admin_socket=RUN / "admin.sock",
    access_log=RUN / "access.jsonl",
    envoy_log=RUN / "envoy.log",
    certificate=RUN / "certs" / "tls.crt",
    private_key=RUN / "certs" / "tls.key",
    web=f"unix:{RUN}/web.sock",
    mlflow="127.0.0.1:5000",
    issuer="portway",
    jwks=JWKS,
    private_port=8444,
)
KEYS = KeyAuth("salt", {"a" * 64: "primary", "b" * 64: "secondary"})
OPEN_ROUTES = {"no-endpoint", "no-grpc-endpoint", "internal", "mlflow", "web", "elsewhere"}
OPEN_ROUTES |= {*UPLOADS, "site-too-large", "blob-too-large"}


def endpoints() -> list[Endpoint]:
    blue = Deployment("blue", ("unix:/run/portway/b1.sock", "unix:/run/portway/b2.sock"), 4, 5000, session="blue-7")
    green = Deployment("green", ("10.0.0.7:31001",), 1, 60_000, ready_path="/health/ready")
    return [
        Endpoint(
            "diabetes",
            KEYS,
            (blue, green, Deployment("shadow", ("[::1]:31003",), 2, 5000)),
            {"blue": 90, "green": 10, "shadow": 0},
            {"shadow": 30},
            cors_origins=("https://app.example",),
        ),
        Endpoint("iris", TokenAuth("iris"), (green,), {"green": 100}, rate_per_second=50, body_limit_bytes=1_000_000),
        Endpoint("open", OpenAuth(), (blue,), {}, cors_origins=("*",)),
        Endpoint("cold", KEYS, (Deployment("blue", (), 1, 5000),), {"blue": 100}),
        Endpoint(
            "triton",
            KEYS,
            (
                Deployment(
                    "t", ("triton.internal:8000",), 8, 5000, ready_port=8002, grpc_replicas=("triton.internal:8001",)
                ),
            ),
            {"t": 100},
        ),
        Endpoint("hidden", KEYS, (blue,), {"blue": 100}, public=False),
        Endpoint("empty", KEYS, ()),
    ]


def golden(name: str, value) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(value, sort_keys=False, width=150, allow_unicode=True)
    if os.environ.get("PORTWAY_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; see this file's docstring"


@pytest.mark.parametrize("name", sorted(render(FRONT, endpoints())))
def test_golden(name):
    golden(name.replace("/", "-").removesuffix(".json"), render(FRONT, endpoints())[name])


def test_golden_bootstrap():
    golden("bootstrap", render_bootstrap(FRONT))


def accepted(tmp_path, front, given) -> None:
    config = tmp_path / "fold.json"
    config.write_text(json.dumps(fold(front, render(front, given))))
    argv = [
        str(envoy_binary()),
        "--mode",
        "validate",
        "-c",
        str(config),
        "--reject-unknown-dynamic-fields",
        "-l",
        "error",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.envoy
@pytest.mark.parametrize("given", [endpoints(), []], ids=["golden", "nothing"])
def test_envoy_itself_accepts_the_folded_configuration(tmp_path, given):
    certs = ensure_certificates(tmp_path / "certs", ca_pem=tmp_path / "ca.pem")
    here = {"access_log": tmp_path / "log", "admin_socket": tmp_path / "a", "xds": tmp_path / "xds"}
    front = dataclasses.replace(FRONT, certificate=certs.certificate, private_key=certs.private_key, **here)
    accepted(tmp_path, front, given)


def routes_of(table):
    matcher = table["virtual_hosts"][0]["matcher"]
    actions = [*matcher["matcher_tree"]["prefix_match_map"]["map"].values(), matcher["on_no_match"]]
    return [route for action in actions for route in action["action"]["typed_config"]["routes"]]


def doors(route) -> list[str]:
    """Which of the three ways in a route has; ext_authz is a fourth, for mlflow alone."""
    config = route["typed_per_filter_config"]
    key, jwt, rbac = (
        config.get(name, {})
        for name in ("portway.key_hash", *(f"envoy.filters.http.{n}" for n in ("jwt_authn", "rbac")))
    )
    found = []
    if key.get("filter_context", {}).get("salt") and not jwt and not rbac:
        found.append("key")
    if key.get("disabled") and jwt.get("requirement_name") == "token":
        policy = rbac["rbac"]["rules"]["policies"]["audience"]["principals"][0]["sourced_metadata"]["metadata_matcher"]
        assert policy["value"]["string_match"]["exact"]
        found.append("token")
    if key.get("disabled") and not jwt and not rbac:
        found.append("open")
    return found


def test_every_route_has_exactly_one_door():
    given = {endpoint.name: endpoint for endpoint in endpoints()}
    wanted = {KeyAuth: "key", TokenAuth: "token", OpenAuth: "open"}
    filters = {each["name"] for each in http_filters()}
    seen = set()
    for table in render_routes(FRONT, endpoints()).values():
        for route in routes_of(table):
            assert route["typed_per_filter_config"].keys() <= filters, "a filter name Envoy would ignore"
            [door] = doors(route)
            endpoint = route.get("metadata", {}).get("filter_metadata", {}).get("portway", {}).get("endpoint")
            if endpoint:
                assert door == wanted[type(given[endpoint].auth)], route["name"]
                seen.add(endpoint)
            else:
                assert route["name"] in OPEN_ROUTES
                assert "cluster" not in route.get("route", {}) or route["route"]["cluster"] in {"web", "mlflow"}
    assert seen == given.keys()


def http_filters():
    listener = render(FRONT, endpoints())["lds/listeners.json"][0]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]


def test_the_order_of_filters_is_the_contract():
    assert [each["name"].rpartition(".")[2] for each in http_filters()] == [
        "cors",
        "jwt_authn",
        "rbac",
        "ext_authz",
        "key_hash",
        "local_ratelimit",
        "model_error",
        "router",
    ]
    on = {each["name"] for each in http_filters() if not each.get("disabled")}
    assert {"portway.key_hash", "portway.model_error"} <= on


def test_ext_authz_is_on_mlflow_alone():
    for table in render_routes(FRONT, endpoints()).values():
        for route in routes_of(table):
            asked = "envoy.filters.http.ext_authz" in route["typed_per_filter_config"]
            assert asked == (route.get("route", {}).get("cluster") == "mlflow")


def test_no_route_names_a_cluster_that_is_not_there():
    resources = render(FRONT, endpoints())
    clusters = {cluster["name"] for cluster in resources["cds/clusters.json"]}
    for name in ("public", "private"):
        for route in routes_of(resources[f"rds/{name}.json"][0]):
            action = route.get("route", {})
            named = [share["name"] for share in action.get("weighted_clusters", {}).get("clusters", [])]
            named += [policy["cluster"] for policy in action.get("request_mirror_policies", [])]
            named += [action["cluster"]] if "cluster" in action else []
            assert set(named) <= clusters
            assert not any("." in cluster for cluster in named)


def test_an_endpoint_is_behind_one_door_only():
    tables = render_routes(FRONT, endpoints())
    for name, table in tables.items():
        tree = table["virtual_hosts"][0]["matcher"]["matcher_tree"]["prefix_match_map"]["map"]
        assert ("/e/hidden/" in tree) == (name == "private")
        assert ("/e/diabetes/" in tree) == (name == "public")
    assert render_routes(dataclasses.replace(FRONT, private_port=None), endpoints()).keys() == {"public"}


def test_weights_leave_out_zero_and_mirror_sits_on_the_split_alone():
    [table] = render(FRONT, endpoints())["rds/public.json"]
    routes = [route for route in routes_of(table) if route["name"].startswith("diabetes/")]
    assert [route["name"].split("/")[1] for route in routes] == [
        "too-large",
        "blue",
        "green",
        "shadow",
        "unknown",
        "split",
    ]
    split = routes[-1]["route"]
    assert [share["weight"] for share in split["weighted_clusters"]["clusters"]] == [90, 10]
    assert [route["name"] for route in routes if "request_mirror_policies" in route.get("route", {})] == [
        "diabetes/split"
    ]


def test_digests_are_rendered_and_nothing_else_of_a_key():
    text = json.dumps(render(FRONT, endpoints()))
    assert "a" * 64 in text


def test_queues_follow_replicas_without_touching_clusters():
    [before] = render_limits(endpoints())
    assert before["layer"]["circuit_breakers.dep__diabetes__blue.default.max_pending_requests"] == 8
    assert not any("__grpc" in name for name in before["layer"])
    clusters = {cluster["name"]: cluster for cluster in render_clusters(FRONT, endpoints())}
    assert clusters["dep__cold__blue"]["load_assignment"]["endpoints"][0]["lb_endpoints"] == []
    assert clusters["dep__triton__t"]["type"] == "STRICT_DNS"
    assert clusters["dep__diabetes__green"]["type"] == "STATIC"


def test_health_checks_stretch_with_the_number_of_replicas():
    def interval(count):
        crowd = tuple(Deployment(f"d{n}", tuple(f"10.0.{n}.{r}:80" for r in range(50)), 1, 1000) for n in range(count))
        return render_clusters(FRONT, [Endpoint("crowd", OpenAuth(), crowd)])[0]["health_checks"][0]["interval"]

    assert [interval(count) for count in (1, 41, 101)] == ["1s", "2s", "5s"]


BLUE = Deployment("blue", ("127.0.0.1:1",), 1, 1000)
GOOD = Endpoint("good", KEYS, (BLUE,), {"blue": 100})


def with_blue(**fields):
    return dataclasses.replace(GOOD, deployments=(dataclasses.replace(BLUE, **fields),))


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (dataclasses.replace(GOOD, name="a.b"), "no dot"),
        (dataclasses.replace(GOOD, name="a__b"), "letters, digits"),
        (dataclasses.replace(GOOD, name="a/b"), "letters, digits"),
        (dataclasses.replace(GOOD, name=""), "letters, digits"),
        (with_blue(name="b.c"), "no dot"),
        (dataclasses.replace(GOOD, deployments=(BLUE, BLUE)), "more than one deployment"),
        (dataclasses.replace(GOOD, traffic={"green": 100}), "no deployment of this endpoint"),
        (dataclasses.replace(GOOD, traffic={"blue": 99}), "adds up to 99"),
        (dataclasses.replace(GOOD, traffic={"blue": -5}), "whole number"),
        (dataclasses.replace(GOOD, traffic={"blue": True}), "whole number"),
        (dataclasses.replace(GOOD, mirror={"green": 10}), "no deployment of this endpoint"),
        (dataclasses.replace(GOOD, mirror={"blue": 101}), "whole number"),
        (dataclasses.replace(GOOD, rate_per_second=0), "rate limit"),
        (dataclasses.replace(GOOD, body_limit_bytes=0), "body limit"),
        (dataclasses.replace(GOOD, cors_origins=("a.example",)), "not an origin"),
        (dataclasses.replace(GOOD, auth=KeyAuth("", {})), "without a salt"),
        (dataclasses.replace(GOOD, auth=KeyAuth("s", {"plain": "primary"})), "not a SHA-256"),
        (dataclasses.replace(GOOD, auth=KeyAuth("s", {"a" * 64: "x y"})), "client name"),
        (dataclasses.replace(GOOD, auth=TokenAuth("")), "every token"),
        (with_blue(concurrency=0), "concurrency"),
        (with_blue(request_timeout_ms=0), "forever"),
        (with_blue(ready_path="x"), "does not begin"),
        (with_blue(session="a%b"), "header cannot carry"),
        (with_blue(replicas=("127.0.0.1:1", "127.0.0.1:1")), "more than one replica"),
        (with_blue(replicas=("unix:rel.sock",)), "not absolute"),
        (with_blue(replicas=("unix:/" + "x" * 120,)), "longer than"),
        (with_blue(replicas=("nonsense",)), "not an address"),
        (with_blue(replicas=("host:99999",)), "not an address"),
        (with_blue(replicas=("host:80", "unix:/a")), "host names and unix sockets"),
        (with_blue(idle_timeout_s=0), "idle timeout"),
    ],
)
def test_what_envoy_would_swallow_is_refused_with_a_sentence(endpoint, words):
    with pytest.raises(ValueError, match=words) as caught:
        check([endpoint])
    assert str(caught.value).endswith(".")


def test_two_endpoints_of_one_name_and_a_gateway_without_signing_keys():
    check([GOOD])
    with pytest.raises(ValueError, match="more than one endpoint"):
        check([GOOD, GOOD])
    with pytest.raises(ValueError, match="public key"):
        render(dataclasses.replace(FRONT, jwks={"keys": []}), [])


def test_the_command_finds_the_real_binary():
    argv = envoy_argv(FRONT)
    assert Path(argv[0]).is_file()
    assert argv[1:3] == ["-c", "/run/portway/bootstrap.json"]
    assert {"--disable-hot-restart", "--reject-unknown-dynamic-fields", "--concurrency"} <= set(argv)
