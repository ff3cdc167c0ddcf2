"""What passes the door: paths, forged headers, web, mlflow, CORS, streams, WebSockets, TLS, the private door."""

import asyncio
import itertools
import json
import socket
import time

import pytest

from tests.gateway.client import Session, call
from tests.gateway.upstream import DECIDED, wait_for
from tests.gateway.world import KEY, token

pytestmark = pytest.mark.envoy
HTML = {"accept": "text/html,application/xhtml+xml"}
TRAVERSALS = [
    "/e/pub/../main/score",
    "/e/pub/%2e%2e/main/score",
    "/e/pub/%2E%2e/main/score",
    "/e/pub/./../main/score",
    "/e/pub/x/../../main/score",
    "/e/pub/..\\main/score",
    "/e/pub/..%5cmain/score",
    "/e/pub/..%2fmain/score",
    "/e/pub/..%2Fmain/score",
    "/e/pub/%2e%2e%2fmain/score",
    "/e//main/score",
    "//e/main/score",
    "/e%2fmain/score",
    "/%65/main/score",
    "/e/%6dain/score",
    "/x/../e/main/score",
    "/mlflow/../e/main/score",
    "/e/pub;/../main/score",
    "/e/pub?/../../main/score",
    "/e/pub#/../../main/score",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_spelling_of_a_path_reaches_a_model_without_its_key(world, path):
    """`pub` is open and served by m1 alone; `main` wants a key and its header route goes to m2's neighbour shadow."""
    call(world.port, path, headers={"azureml-model-deployment": "shadow"})
    assert not world.upstreams["shadow"].seen
    assert not world.upstreams["green"].seen
    assert not world.upstreams["m2"].seen


def test_dot_segments_lead_to_the_endpoint_they_name_with_its_own_key(world):
    assert call(world.port, "/e/pub/../main/score").status == 401
    reply = call(world.port, "/e/pub/../main/score", key=KEY)
    assert (reply.status, reply.json["path"]) == (200, "/score")


@pytest.mark.parametrize("path", ["/score", "/v2/models/m/infer?x=1&y=%2F", "/", "/a%2Fb", "/swagger.json"])
def test_every_sub_path_is_passed_on(world, path):
    assert call(world.port, f"/e/pub{path}").json["path"] == path


@pytest.mark.parametrize(
    "path", ["/storage/a%2Fb//c.txt?sig=1%2F2", "/", "/api/v1/x", "/e", "/mlflowx", "/static/a.css"]
)
def test_web_gets_its_paths_untouched(world, path):
    reply = call(world.port, path, method="GET", body=b"")
    assert (reply.status, reply.served_by, reply.json["path"]) == (200, "web", path)


def test_the_log_keeps_no_key_that_is_part_of_an_address(world):
    sent = {}
    for path in (
        "/accounts/password/reset/key/3-s3cret/",
        "/Accounts/password/reset/KEY/4-s3cret/",
        "/accounts/login/",
    ):
        sent[path] = call(world.port, path, method="GET", body=b"").headers["x-request-id"]
    with socket.create_connection(("127.0.0.1", world.port)) as raw:
        raw.sendall(b"no request\r\n\r\n")
        raw.recv(1000)

    def lines():
        return [json.loads(each) for each in world.front.access_log.read_text().splitlines()]

    wait_for(lambda: sum(each["request_id"] in sent.values() for each in lines()) == len(sent))
    found = {each["request_id"]: each["path"] for each in lines()}
    hidden = "/accounts/password/reset/key/…"
    assert [found[request_id] for request_id in sent.values()] == [hidden, hidden, "/accounts/login/"]
    assert "s3cret" not in world.front.access_log.read_text()
    ids = [each["request_id"] for each in lines() if each["request_id"]]
    assert len(ids) == len(set(ids))  # no request is written twice
    wait_for(lambda: any(each["request_id"] is None for each in lines()))  # what is no request is written too


LARGE = {"content-length": str(10 * 2**20 + 1)}


@pytest.mark.parametrize("path", ["/", "/accounts/login/", "/api/v1/workspaces/lab/models/x/versions/1", "/uploads"])
def test_only_uploads_may_send_web_much(world, path):
    """Web would spool the whole body before it asks who sent it."""
    reply = call(world.port, path, headers=LARGE, body=b"")
    assert (reply.status, reply.json["error"]["code"]) == (413, "PayloadTooLarge")
    assert call(world.port, path, body=b"x" * 1000).served_by == "web"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/workspaces/lab/uploads",
        "/API/v1/workspaces/lab/uploads?x=1",
        "/w/lab/create/model",
        "/w/lab/endpoints/iris/deployments/blue/edit",
        "/w/lab/create/data",
    ],
)
def test_uploads_may_be_large(world, path):
    reply = call(world.port, path, body=b"x" * (11 * 2**20))
    assert (reply.status, reply.served_by) == (200, "web")


def test_a_404_of_web_stays_a_404(world):
    reply = call(world.port, "/nowhere?status=404", method="GET", body=b"")
    assert (reply.status, reply.served_by) == (404, "web")
    assert "ms-azureml-model-error-statuscode" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/internal/authz/mlflow",
        "/internal/",
        "/internal",
        "/Internal/authz/mlflow",
        "//internal/authz",
        "/%69nternal/authz",
        "/internal%2fauthz/mlflow",
        "/%2finternal/authz",
        "/x/../internal/authz",
        "/./internal/authz",
        "/%2e/internal/authz",
        "/internal;x/authz",
    ],
)
def test_internal_is_not_reachable(world, path):
    reply = call(world.port, path, method="GET", body=b"")
    assert (reply.status, reply.code) == (404, "NotFound")
    assert not world.upstreams["web"].seen


def test_forged_headers_are_gone(world):
    forged = {
        "x-portway-client": "primary",
        "x-portway-user": "root",
        "x-portway-anything": "1",
        "x-envoy-original-path": "/lie",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-max-retries": "9",
        "x-forwarded-proto": "https",
    }
    assert call(world.port, "/e/pub/score?sleep=0.1", headers=forged).status == 200
    call(world.port, "/page", method="GET", body=b"", headers=forged)
    for upstream in ("m1", "web"):
        [seen] = world.upstreams[upstream].seen
        assert not [name for name in seen.headers if name.startswith("x-portway-")]
        assert seen.headers.get("x-envoy-original-path") in (None, "/e/pub/score?sleep=0.1")
        assert seen.headers["x-forwarded-proto"] == "http"
        assert "x-envoy-max-retries" not in seen.headers
    call(world.tls_port, "/page", method="GET", body=b"", headers={"x-forwarded-proto": "http"}, tls=world.tls())
    assert world.upstreams["web"].seen[-1].headers["x-forwarded-proto"] == "https"
    line = world.log_line(call(world.port, "/e/main/score", headers=forged).headers["x-request-id"])
    assert (line["client"], line["path"], line["code"]) == (None, "/e/main/score", 401)


def test_headers_with_an_underscore_are_gone_but_for_the_request_id_of_the_sdk(world):
    sent = {"x_portway-user": "root", "x_portway_user": "root", "repeatability_request-id": "r-1"}
    assert call(world.port, "/batch/forests/jobs", headers=sent).status == 200
    call(world.port, "/page", method="GET", body=b"")
    first, second = world.upstreams["web"].seen
    assert not [name for name in first.headers if "_" in name or name.startswith("x-portway-")]
    assert first.headers["repeatability-request-id"] == "r-1"
    assert "repeatability-request-id" not in second.headers


def test_mlflow_after_asking_web(world):
    headers = {"cookie": "sessionid=1", "authorization": "Bearer pat", "x-portway-user": "root", "x-other": "1"}
    headers |= {"x-mlflow-workspace": "wanted", "x-portway-workspaces": "all"}
    reply = call(world.port, "/mlflow/api/2.0/x?y=a%2Fb", headers=headers)
    assert (reply.status, reply.served_by, reply.json["path"]) == (200, "mlflow", "/mlflow/api/2.0/x?y=a%2Fb")
    [asked] = world.upstreams["web"].seen
    assert (asked.method, asked.path) == ("POST", "/internal/authz/mlflow/mlflow/api/2.0/x?y=a%2Fb")
    assert (asked.headers["cookie"], asked.headers["authorization"]) == ("sessionid=1", "Bearer pat")
    assert asked.headers["host"] == "localhost"
    assert "x-other" not in asked.headers
    assert not {"x-portway-user", "x-portway-workspaces"} & asked.headers.keys()
    assert asked.headers["x-mlflow-workspace"] == "wanted"
    [served] = world.upstreams["mlflow"].seen
    assert DECIDED.items() <= served.headers.items()
    assert not {"cookie", "authorization", "x-secret"} & served.headers.keys()
    assert call(world.port, "/mlflow", method="GET", body=b"").served_by == "mlflow"


def test_mlflow_says_no_when_web_does(world):
    world.upstreams["web"].authz = "deny"
    reply = call(world.port, "/mlflow/", method="GET", body=b"")
    assert (reply.status, reply.code) == (403, "Unauthorized")
    reply = call(world.port, "/mlflow/", method="GET", body=b"", headers=HTML)
    assert reply.status == 403
    assert "sign in" in reply.body.decode().lower()
    world.upstreams["web"].authz = "redirect"
    reply = call(world.port, "/mlflow/", method="GET", body=b"", headers=HTML)
    assert (reply.status, reply.headers["location"]) == (302, "/accounts/login/?next=/mlflow/")
    assert not world.upstreams["mlflow"].seen


@pytest.mark.slow
def test_mlflow_stays_shut_when_web_does_not_answer(world):
    world.upstreams["web"].authz = "hang"
    started = time.monotonic()
    reply = call(world.port, "/mlflow/", method="GET", body=b"")
    assert (reply.status, reply.code) == (503, "ServiceUnavailable")
    assert 4.5 < time.monotonic() - started < 7
    assert not world.upstreams["mlflow"].seen


def test_web_is_not_asked_about_anything_else(world):
    call(world.port, "/e/pub/score")
    call(world.port, "/page", method="GET", body=b"")
    assert [seen.path for seen in world.upstreams["web"].seen] == ["/page"]


def test_when_web_is_down_people_get_a_page_and_programs_json(world):
    web = world.upstreams.pop("web")
    world.loop.kill(web)
    (world.root / "web.sock").unlink(missing_ok=True)
    try:
        page = call(world.port, "/", method="GET", body=b"", headers=HTML)
        assert page.status == 503
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["x-request-id"] in page.body.decode()
        reply = call(world.port, "/api/v1/x", method="GET", body=b"")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "ServiceUnavailable", "5")
        assert "part of Portway" in reply.json["error"]["message"]
        reply = call(world.port, "/mlflow/", method="GET", body=b"")
        assert (reply.status, reply.code) == (503, "ServiceUnavailable")
        assert call(world.port, "/mlflow/", method="GET", body=b"", headers=HTML).body.startswith(b"<!doctype html>")
        assert call(world.port, "/e/main/score", key=KEY).status == 200
    finally:
        world.serve("web")
    wait_for(lambda: call(world.port, "/", method="GET", body=b"").status == 200)


def preflight(world, endpoint, origin):
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    return call(world.port, f"/e/{endpoint}/score", method="OPTIONS", body=b"", headers=headers)


def test_cors_is_opt_in_and_comes_before_the_key(world):
    reply = preflight(world, "kcors", "https://a.example")
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://a.example")
    assert "authorization" in reply.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in preflight(world, "kcors", "https://b.example").headers
    assert preflight(world, "main", "https://a.example").status == 401
    reply = call(world.port, "/e/kcors/score", key=KEY, headers={"origin": "https://a.example"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://a.example")
    reply = call(world.port, "/e/kcors/score", headers={"origin": "https://a.example"})
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (401, "https://a.example")


def test_events_arrive_as_they_are_sent(world):
    async def go():
        moments = []
        async with Session(world.port) as session:
            await session.send("POST", "/e/main/sse", {"authorization": f"Bearer {KEY}"}, b"{}")
            await session.reader.readuntil(b"\r\n\r\n")
            for _ in range(4):
                await asyncio.wait_for(session.reader.readuntil(b"\n\n"), 5)
                moments.append(time.monotonic())
        return [later - earlier for earlier, later in itertools.pairwise(moments)]

    assert all(0.08 < gap < 0.6 for gap in asyncio.run(go()))


@pytest.mark.parametrize(
    ("path", "headers"), [("/e/slow/ws", {}), ("/ws/x", {}), ("/e/main/ws", {"authorization": f"Bearer {KEY}"})]
)
def test_web_sockets_outlive_the_request_timeout(world, path, headers):
    """`slow` allows a request 0.3 s; a socket is not a request."""
    upgrade = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
        "content-length": None,
    }

    async def go():
        async with Session(world.port) as session:
            opened = await session.call("GET", path, {**upgrade, **headers})
            echoes = []
            for word in (b"one", b"two"):
                session.writer.write(word)
                echoes.append(await asyncio.wait_for(session.reader.readexactly(3), 5))
                await asyncio.sleep(0.6)
            return opened.status, echoes

    assert asyncio.run(go()) == (101, [b"one", b"two"])


def test_a_web_socket_without_a_key_is_401(world):
    headers = {"upgrade": "websocket", "connection": "Upgrade", "content-length": None}
    assert call(world.port, "/e/main/ws", method="GET", body=b"", headers=headers).status == 401


def test_tls_with_our_own_authority(world):
    assert call(world.tls_port, "/e/main/score", key=KEY, tls=world.tls()).status == 200
    context = world.tls()
    context.set_alpn_protocols(["h2"])

    async def negotiated():
        async with Session(world.tls_port, context) as session:
            return session.writer.get_extra_info("ssl_object").selected_alpn_protocol()

    assert asyncio.run(negotiated()) == "h2"


def test_the_private_door(world):
    hidden = call(world.port, "/e/hid/score", key=KEY)
    assert (hidden.status, hidden.code) == (404, "EndpointNotFound")
    assert call(world.private_port, "/e/hid/score", key=KEY, tls=world.tls()).status == 200
    assert call(world.private_port, "/e/hid/score", tls=world.tls()).status == 401
    assert call(world.private_port, "/e/main/score", key=KEY, tls=world.tls()).code == "EndpointNotFound"
    assert call(world.private_port, "/", method="GET", body=b"", tls=world.tls()).code == "NotFound"


def test_one_log_line_per_request_says_who_and_where(world):
    headers = {"azureml-model-deployment": "green", "x-ms-client-request-id": "mine"}
    reply = call(world.port, "/e/main/score?status=500", key=KEY, headers=headers)
    line = world.log_line(reply.headers["x-request-id"])
    assert (line["endpoint"], line["deployment"], line["client"]) == ("main", "green", "primary")
    assert (line["code"], line["model_status"], line["client_request_id"]) == (424, "500", "mine")
    assert (line["path"], line["cluster"], line["method"]) == ("/e/main/score", "dep__main__green", "POST")
    assert (line["workspace"], line["auth"], line["protocol"]) == ("lab", "key", "HTTP/1.1")
    assert (line["model_reason"], line["flags"], line["details"]) == ("model_error", "-", "via_upstream")
    assert all(isinstance(line[name], int) for name in ("body_us", "wait_us", "model_us", "answer_us"))
    assert line["wait_us"] + line["model_us"] + line["answer_us"] <= (line["ms"] + 2) * 1000
    assert (line["address"], line["bytes_in"], line["attempts"]) == ("127.0.0.1", 2, 1)
    reply = call(world.port, "/e/tok/score", key=token("tok"))
    line = world.log_line(reply.headers["x-request-id"])
    assert (line["client"], line["auth"], line["workspace"]) == ("ada", "token", None)


def test_the_log_has_no_secret_and_no_more_of_a_name_than_fits(world):
    secret = "s3cr3t-s3cr3t"
    sent = {"user-agent": "a" * 500, "cookie": f"portway_session={secret}", "x-api-key": secret}
    path = f"/e/main/{'p' * 900}?code={secret}&sig={secret}"
    for key in (KEY, secret):
        reply = call(world.port, path, key=key, headers=sent, body=secret.encode())
        line = world.log_line(reply.headers["x-request-id"])
        assert secret not in json.dumps(line)
        assert KEY not in json.dumps(line)
        assert (len(line["user_agent"]), len(line["path"])) == (70, 300)


def test_counters_per_deployment(world):
    before = world.publisher.stats()["dep__main__green"]
    picked = {"azureml-model-deployment": "green"}
    for status in (200, 200, 404, 500):
        call(world.port, f"/e/main/score?status={status}", key=KEY, headers=picked)
    after = world.publisher.stats()["dep__main__green"]
    assert (after.endpoint, after.deployment) == ("main", "green")
    assert after.requests - before.requests == 4
    assert after.status_2xx - before.status_2xx == 2
    assert (after.status_4xx - before.status_4xx, after.status_5xx - before.status_5xx) == (1, 1)
    assert (after.healthy, after.total, after.active, after.pending) == (1, 1, 0, 0)
    latency = wait_for(lambda: world.publisher.stats()["dep__main__green"].latency)
    wait_for(lambda: world.publisher.stats()["dep__main__green"].latency.p95 is not None, 12)
    assert latency is not None


def test_prometheus_labels(world):
    text = world.publisher.admin.get("/stats/prometheus?filter=dep__main__green.*upstream_rq_total")
    assert 'endpoint="main"' in text
    assert 'deployment="green"' in text
