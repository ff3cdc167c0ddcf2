"""A push is accepted, or refused with Envoy's reason and the old configuration back in place."""

import copy
import json

import pytest

from apps.gateway.envoy import render
from apps.gateway.publisher import Publisher
from tests.gateway.client import call
from tests.gateway.upstream import wait_for
from tests.gateway.world import KEY, World

pytestmark = pytest.mark.envoy


def resources(world):
    return render(world.front, world.endpoints())


def push(world, content):
    world.version += 1
    return world.publisher.publish(content, version=world.version, timeout_s=15)


def disk(world):
    found = {}
    for path in world.front.xds.rglob("*.json"):
        if ".good" not in path.parts:
            found[str(path.relative_to(world.front.xds))] = path.read_bytes()
    return found


def split_of(content):
    host = content["rds/public.json"][0]["virtual_hosts"][0]
    tree = host["matcher"]["matcher_tree"]["prefix_match_map"]["map"]
    return tree["/e/main/"]["action"]["typed_config"]["routes"][-1]["route"]


def no_weight(content):
    for share in split_of(content)["weighted_clusters"]["clusters"]:
        share["weight"] = 0


def unknown_field(content):
    content["cds/clusters.json"][0]["lb_polcy"] = "ROUND_ROBIN"


def twice(content):
    content["cds/clusters.json"].append({**content["cds/clusters.json"][0], "connect_timeout": "3s"})


def bad_port(content):
    content["lds/listeners.json"][0]["address"]["socket_address"]["port_value"] = 99999


def bad_lua(content):
    filters = content["lds/listeners.json"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    [lua] = [each for each in filters if each["name"] == "portway.key_hash"]
    lua["typed_config"]["default_source_code"]["inline_string"] = "this is not lua"


def bad_limit(content):
    content["rtds/limits.json"][0]["nonsense"] = 1


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (no_weight, "rds/public.json", "Sum of weights"),
        (unknown_field, "cds/clusters.json", "lb_polcy"),
        (twice, "cds/clusters.json", "duplicate cluster"),
        (bad_port, "lds/listeners.json", "99999|PortValue|port_value"),
        (bad_lua, "lds/listeners.json", "script load error|syntax error"),
        (bad_limit, "rtds/limits.json", "nonsense"),
    ],
)
def test_a_refused_push_is_reported_and_undone(world, damage, file, reason):
    assert push(world, resources(world)).accepted
    before = disk(world)
    content = copy.deepcopy(resources(world))
    # good news in the same push must not stay behind either
    content["cds/clusters.json"][1]["connect_timeout"] = "2s"
    damage(content)
    published = push(world, content)
    assert published.accepted is False
    assert file in published.changed
    assert published.reason.startswith(f"{file}: Envoy refused it: ")
    assert any(word in published.reason for word in reason.split("|")), published.reason
    assert "back in place" in published.reason
    assert disk(world) == before
    assert call(world.port, "/e/main/score", key=KEY).status == 200
    again = push(world, resources(world))
    assert (again.accepted, again.changed) == (True, ())


def test_only_what_changed_is_written(world):
    assert push(world, resources(world)).accepted
    before = disk(world)
    published = push(world, resources(world))
    assert (published.accepted, published.changed, published.reason) == (True, (), None)
    assert disk(world) == before
    content = resources(world)
    split_of(content)["timeout"] = "4s"
    assert push(world, content).changed == ("rds/public.json",)
    assert push(world, resources(world)).accepted


def test_a_listener_change_is_followed(world):
    assert world.publish(world.endpoints(), max_connections=1, trusted_hops=1).changed == ("lds/listeners.json",)
    assert call(world.port, "/e/main/score", key=KEY).status == 200
    assert world.publish(world.endpoints()).accepted


def test_the_private_door_opens_and_closes(world):
    published = world.publish(world.endpoints(), private_port=None)
    assert published.accepted, published
    assert not (world.front.xds / "rds" / "private.json").exists()
    published = world.publish(world.endpoints())
    assert published.accepted, published
    assert set(published.changed) == {"rds/private.json", "lds/listeners.json"}
    reply = wait_for(lambda: call(world.private_port, "/e/hid/score", key=KEY, tls=world.tls()))
    assert reply.status == 200


def test_a_port_that_is_taken_is_the_reason(world):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        published = world.publish(world.endpoints(), private_port=taken.getsockname()[1])
    assert published.accepted is False
    assert "in use" in published.reason
    assert world.publish(world.endpoints()).accepted


def test_a_file_damaged_by_hand_is_mended(world):
    assert push(world, resources(world)).accepted
    path = world.front.xds / "rds" / "public.json"
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps({"version_info": "by hand", "resources": []}))
    beside.rename(path)
    wait_for(lambda: "rds/public.json" in push(world, resources(world)).changed)
    assert call(world.port, "/e/main/score", key=KEY).status == 200


def test_without_a_log_the_refusal_still_counts(world):
    content = copy.deepcopy(resources(world))
    no_weight(content)
    world.version += 1
    blind = Publisher(world.front.xds, world.front.admin_socket)
    published = blind.publish(content, version=world.version, timeout_s=15)
    assert published.accepted is False
    assert "log" in published.reason


def test_without_envoy_the_files_wait(tmp_path):
    world = World(tmp_path)
    try:
        first = world.publish(world.endpoints())
        assert first.accepted is None
        assert set(first.changed) == set(resources(world))
        assert "not running" in first.reason
        assert not world.publisher.running()
        assert world.publish(world.endpoints()).changed == ()
        world.start()
        assert world.publish(world.endpoints()).accepted is True
        world.stop()
        endpoints = world.endpoints()[:1]
        assert world.publish(endpoints).accepted is None
        world.start()
        assert call(world.port, "/e/tok/score").code == "EndpointNotFound"
        assert world.publish(endpoints).accepted is True
    finally:
        world.close()


def test_a_route_that_names_the_wrong_filter_is_401_and_not_open(world):
    """Envoy takes a misspelt filter name without a word; the key check is on where a route does not switch it off."""
    content = copy.deepcopy(resources(world))
    host = content["rds/public.json"][0]["virtual_hosts"][0]
    for action in host["matcher"]["matcher_tree"]["prefix_match_map"]["map"].values():
        for route in action["action"]["typed_config"]["routes"]:
            route["typed_per_filter_config"] = {
                name.replace("key_hash", "keyhash"): value for name, value in route["typed_per_filter_config"].items()
            }
    assert push(world, content).accepted
    try:
        for endpoint, key in (("main", KEY), ("main", None), ("pub", None), ("tok", KEY)):
            assert call(world.port, f"/e/{endpoint}/score", key=key).status == 401
    finally:
        assert push(world, resources(world)).accepted


def test_files_are_private(world):
    for path in world.front.xds.rglob("*.json"):
        assert path.stat().st_mode & 0o077 == 0
    assert world.front.admin_socket.stat().st_mode & 0o777 == 0o600
