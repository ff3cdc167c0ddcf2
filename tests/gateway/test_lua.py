"""Our SHA-256 against hashlib, run where it runs: inside Envoy."""

import asyncio
import hashlib
import json
import subprocess

import pytest

from apps.gateway.envoy import envoy_binary
from apps.gateway.envoy.filters import LUA
from tests.gateway.client import Session
from tests.gateway.upstream import wait_for
from tests.gateway.world import free_ports

pytestmark = pytest.mark.envoy
PROBE = """
function envoy_on_request(handle)
  local text = handle:headers():get("x-text") or ""
  local bytes = text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  handle:respond({[":status"] = "200"}, sha256(bytes))
end
"""


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}


def config(port):
    code = (LUA / "key_hash.lua").read_text() + PROBE
    lua = typed("filters.http.lua.v3.Lua", default_source_code={"inline_string": code})
    filters = [
        {"name": "lua", "typed_config": lua},
        {"name": "router", "typed_config": typed("filters.http.router.v3.Router")},
    ]
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="t",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": []}]},
        http_filters=filters,
    )
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"address": address, "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]}
    return {"static_resources": {"listeners": [listener]}}


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    root = tmp_path_factory.mktemp("lua")
    [port] = free_ports(1)
    (root / "c.json").write_text(json.dumps(config(port)))
    argv = [
        str(envoy_binary()),
        "-c",
        str(root / "c.json"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: digests(port, [b"x"], patient=True), 30)
        yield port
    finally:
        process.kill()
        process.wait(10)


def digests(port, texts, *, patient=False):
    async def go():
        async with Session(port) as session:
            return [(await session.call("GET", "/", {"x-text": text.hex()})).body.decode() for text in texts]

    try:
        return asyncio.run(go())
    except ConnectionError:
        if patient:
            return None
        raise


def test_every_length_up_to_200_and_every_byte(port):
    texts = [bytes((7 * n + length) % 256 for n in range(length)) for length in range(201)]
    texts += [bytes(range(256)), b"\xff" * 64, b"\x00" * 64, b"a" * 1000]
    assert {55, 56, 63, 64, 119, 120} <= {len(text) for text in texts}
    assert digests(port, texts) == [hashlib.sha256(text).hexdigest() for text in texts]
