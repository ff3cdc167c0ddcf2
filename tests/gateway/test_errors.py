"""Every row of the gateway's error table, asked of a real Envoy."""

import asyncio
import contextlib
import re

import pytest

from tests.gateway.client import Session, burst, call
from tests.gateway.world import KEY, SECOND, STRANGER, token

pytestmark = pytest.mark.envoy
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_good_answer_carries_who_served_it_and_a_request_id(world):
    reply = call(world.port, "/e/main/score", key=KEY, headers={"azureml-model-deployment": "blue"})
    assert reply.status == 200
    assert reply.json["path"] == "/score"
    assert reply.headers["azureml-model-deployment"] == "blue"
    assert reply.headers["azureml-model-session"] == "blue-1"
    assert GUID.fullmatch(reply.headers["x-request-id"])
    [seen] = world.upstreams["m1"].seen + world.upstreams["m2"].seen
    assert seen.headers["x-request-id"] == reply.headers["x-request-id"]
    assert "authorization" not in seen.headers
    assert seen.headers["x-portway-client"] == "primary"


def error(reply, status, code):
    assert (reply.status, reply.code) == (status, code), reply
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["error"]["request_id"] == reply.headers["x-request-id"]
    assert len(reply.json["error"]["message"]) > 20
    return reply


@pytest.mark.parametrize("credential", [None, "wrong", "", KEY + "x", "x" * 600, KEY.upper()])
def test_missing_or_wrong_key_is_401(world, credential):
    reply = error(call(world.port, "/e/main/score", key=credential), 401, "Unauthorized")
    assert "azureml-model-deployment" not in reply.headers
    assert "azureml-model-session" not in reply.headers
    assert not world.upstreams["m1"].seen
    assert "Bearer" in reply.headers["www-authenticate"]


@pytest.mark.parametrize("scheme", ["Basic ", "", "bearer"])
def test_a_key_without_bearer_is_401(world, scheme):
    error(call(world.port, "/e/main/score", headers={"authorization": scheme + KEY}), 401, "Unauthorized")


def test_either_key_works(world):
    assert call(world.port, "/e/main/score", key=SECOND).status == 200
    assert call(world.port, "/e/main/score", headers={"authorization": f"bearer {KEY}"}).status == 200


def test_tokens_of_users_are_good_where_these_may_score(world):
    scoring = "https://ml.azure.com"
    assert call(world.port, "/e/tok2/score", key=token(scoring, workspaces=["den", "lab"])).status == 200
    assert call(world.port, "/e/tok2/score", key=token("tok2")).status == 200
    for workspaces in (["den"], [], "lab", ["lab2"]):
        error(call(world.port, "/e/tok2/score", key=token(scoring, workspaces=workspaces)), 403, "Forbidden")
    error(call(world.port, "/e/tok/score", key=token(scoring, workspaces=["lab"])), 403, "Forbidden")


def test_tokens(world):
    assert call(world.port, "/e/tok/score", key=token("tok")).status == 200
    [seen] = world.upstreams["m1"].seen
    assert "authorization" not in seen.headers
    assert seen.headers["x-portway-client"] == "ada"
    error(call(world.port, "/e/tok/score", key=token("tok2")), 403, "Forbidden")
    error(call(world.port, "/e/tok/score", key=token("tok", seconds=-120)), 401, "Unauthorized")
    error(call(world.port, "/e/tok/score", key=token("tok", signer=STRANGER)), 401, "Unauthorized")
    error(call(world.port, "/e/tok/score", key=token("tok", issuer="other")), 401, "Unauthorized")
    error(call(world.port, "/e/tok/score"), 401, "Unauthorized")
    error(call(world.port, "/e/tok/score", key="a.b.c"), 401, "Unauthorized")


def test_an_audience_list_is_refused(world):
    error(call(world.port, "/e/tok/score", key=token(["tok"])), 403, "Forbidden")


def test_key_on_a_token_endpoint_and_token_on_a_key_endpoint(world):
    error(call(world.port, "/e/tok/score", key=KEY), 401, "Unauthorized")
    reply = error(call(world.port, "/e/main/score", key=token("main")), 401, "Unauthorized")
    assert "azureml-model-deployment" not in reply.headers


def test_open_needs_nothing(world):
    assert call(world.port, "/e/pub/score").status == 200


def test_404s_say_what_is_missing(world):
    error(call(world.port, "/e/nobody/score"), 404, "EndpointNotFound")
    error(call(world.port, "/e/main"), 404, "EndpointNotFound")
    picked = {"azureml-model-deployment": "nope"}
    error(call(world.port, "/e/main/score", key=KEY, headers=picked), 404, "DeploymentNotFound")
    reply = error(call(world.port, "/e/idle/score", key=KEY), 404, "DeploymentNotFound")
    assert "no deployment has traffic" in reply.json["error"]["message"].lower()
    error(call(world.port, "/e/idle/score"), 401, "Unauthorized")
    error(call(world.port, "/e/main/score", headers=picked), 401, "Unauthorized")


def test_zero_percent_is_alive_by_header(world):
    reply = call(world.port, "/e/idle/score", key=KEY, headers={"azureml-model-deployment": "blue"})
    assert (reply.status, reply.served_by) == (200, "m1")
    reply = call(world.port, "/e/main/score", key=KEY, headers={"azureml-model-deployment": "shadow"})
    assert (reply.status, reply.served_by) == (200, "shadow")


def test_time_out_is_408_however_often(world):
    replies = burst(world.port, "/e/slow/score?sleep=1", 12)
    for reply in replies:
        error(reply, 408, "RequestTimeout")
    assert call(world.port, "/e/slow/score").status == 200


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 503])
def test_a_models_own_error_is_424_with_its_body(world, status):
    for _ in range(6):  # five in a row must not eject a replica either
        reply = call(world.port, f"/e/pub/score?status={status}")
        assert reply.status == 424
        assert reply.headers["ms-azureml-model-error-statuscode"] == str(status)
        assert reply.headers["ms-azureml-model-error-reason"] == "model_error"
        assert reply.headers["azureml-model-deployment"] == "blue"
        assert reply.served_by == "m1"


def warm(world, endpoint, *names):
    """All connections open: one that is still being opened counts as waiting."""
    for _ in range(20):
        burst(world.port, f"/e/{endpoint}/score?sleep=0.05", 16)
        if all(world.upstreams[name].most_active == 4 for name in names):
            return world.clear()
    raise AssertionError("the connections did not open")


def test_full_queue_is_429_at_once(world):
    warm(world, "slots", "one")
    replies = burst(world.port, "/e/slots/score?sleep=0.5", 30)
    assert [reply.status for reply in replies].count(200) == 8
    refused = [reply for reply in replies if reply.status != 200]
    assert len(refused) == 22
    for reply in refused:
        error(reply, 429, "TooManyPendingRequests")
        assert reply.headers["retry-after"] == "1"
    assert world.upstreams["one"].most_active == 4


def test_two_replicas_have_twice_the_room(world):
    world.healthy("dep__slots2__b", 2)
    warm(world, "slots2", "one", "two")
    replies = burst(world.port, "/e/slots2/score?sleep=0.5", 30)
    statuses = [reply.status for reply in replies]
    # never more than 2 x C x N; one or two fewer when the draw lets one replica's queue fill first
    assert 14 <= statuses.count(200) <= 16
    assert statuses.count(200) + statuses.count(429) == 30
    assert world.upstreams["one"].most_active == 4
    assert world.upstreams["two"].most_active == 4


def test_rate_limit_counts_the_endpoint_and_not_the_route(world):
    replies = [call(world.port, "/e/rated/score") for _ in range(3)]
    picked = {"azureml-model-deployment": "green"}
    replies += [call(world.port, "/e/rated/score", headers=picked) for _ in range(20)]
    refused = [reply for reply in replies if reply.status != 200]
    assert 10 <= len(refused) <= 18
    for reply in refused:
        error(reply, 429, "RateLimited")
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["x-ratelimit-limit"].startswith("5")
    assert call(world.port, "/e/pub/score").status == 200


def test_no_replica_is_503(world):
    reply = error(call(world.port, "/e/none/score"), 503, "ServiceUnavailable")
    assert reply.headers["retry-after"] == "5"
    reply = error(call(world.port, "/e/gone/score"), 503, "ServiceUnavailable")
    assert reply.headers["retry-after"] == "5"
    reply = call(world.port, "/e/main/score", key=KEY, headers={"azureml-model-deployment": "none"})
    error(reply, 503, "ServiceUnavailable")


def test_a_replica_that_dies_on_the_request_is_503(world):
    reply = error(call(world.port, "/e/pub/crash"), 503, "ServiceUnavailable")
    assert reply.headers["retry-after"] == "5"
    assert len(world.upstreams["m1"].seen) == 1


def test_a_browser_sees_json_from_a_dead_model_too(world):
    error(call(world.port, "/e/none/score", headers={"accept": "text/html"}), 503, "ServiceUnavailable")


def test_body_limit_is_413(world):
    reply = call(world.port, "/e/main/score", key=KEY, body=b"x" * 100_001)
    error(reply, 413, "PayloadTooLarge")
    assert call(world.port, "/e/main/score", key=KEY, body=b"x" * 100_000).status == 200
    error(call(world.port, "/e/main/score", body=b"x" * 100_001), 401, "Unauthorized")


@pytest.mark.parametrize(("size", "status"), [(60_000, 200), (100_000, 200), (150_000, 413), (3_000_000, 413)])
def test_body_limit_counts_bodies_of_unknown_length(world, size, status):
    async def go():
        async with Session(world.port) as session:
            headers = {"authorization": f"Bearer {KEY}", "transfer-encoding": "chunked", "content-length": None}
            chunk = b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000)
            with contextlib.suppress(ConnectionError):
                await session.send("POST", "/e/main/score", headers, chunk * (size // 10_000) + b"0\r\n\r\n")
            return await asyncio.wait_for(session.receive(), 10)

    reply = asyncio.run(go())
    assert reply.status == status
    if status == 413:
        assert reply.code == "PayloadTooLarge"
    else:
        assert reply.json["bytes"] == size


def test_malformed_is_400(world):
    reply = call(world.port, "/e/main/score", key=KEY, headers={"x y": "1"})
    assert (reply.status, reply.code) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("abc-DEF_1", "abc-DEF_1"), ("a b<c>", "abc"), ("x" * 60, "x" * 40), ("<>", None), (None, None)],
)
def test_client_request_id_is_echoed_clean(world, sent, echoed):
    headers = {"x-ms-client-request-id": sent} if sent else {}
    for key in (KEY, None):
        reply = call(world.port, "/e/main/score", key=key, headers=headers)
        assert reply.headers.get("x-ms-client-request-id") == echoed


def test_a_client_cannot_name_its_request(world):
    reply = call(world.port, "/e/pub/score", headers={"x-request-id": "y" * 200})
    assert GUID.fullmatch(reply.headers["x-request-id"])


def test_a_model_that_answers_before_it_has_read_all_is_424_too(world):
    """Whatever it claims to be: x-portway-reply is the gateway's own."""

    async def half_a_request():
        async with Session(world.port) as session:
            headers = {"authorization": f"Bearer {KEY}", "content-length": "100"}
            await session.send("POST", "/e/main/hasty", headers, b"{")
            return await session.receive("POST")

    reply = asyncio.run(half_a_request())
    assert reply.status == 424
    assert reply.headers["ms-azureml-model-error-statuscode"] == "404"
    assert "x-portway-reply" not in reply.headers
    assert call(world.port, "/e/main/score").headers["x-portway-reply"] == "gateway"
