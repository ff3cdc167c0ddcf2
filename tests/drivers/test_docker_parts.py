"""The parts of the Docker driver that ask no engine: options, marks in logs, what its words mean."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.compute.drivers import files
from apps.compute.drivers.base import Handle, Mount, Network, ReplicaSpec, Resources, State
from apps.compute.drivers.docker import DockerDriver, logs, networks, options, programs, usage, views
from apps.compute.drivers.docker.engine import frames
from apps.compute.drivers.docker.options import Place

MIB = 2**20
PLACE = Place("abc", "python:3.11-slim")
START = datetime(2026, 1, 1, tzinfo=UTC)


def spec(**more):
    given = {"name": "r1", "owner": "portway", "argv": ("/opt/env/bin/python", "-m", "x"), "env": {"A": "1"}}
    given |= {"resources": Resources(1500, 256 * MIB), "labels": {"workspace": "lab"}}
    return ReplicaSpec(**(given | more))


def host(**more):
    return options.host(spec(**more), PLACE, network="none", sockets="/run/r/r1/s")


def test_what_every_container_may_not():
    given = host()
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert (given["read_only"], given["init"], given["ipc_mode"]) == (True, True, "private")
    assert given["restart_policy"] == {"Name": "no"}
    assert given["mem_limit"] == given["memswap_limit"] == 256 * MIB
    assert (given["cpu_period"], given["cpu_quota"], given["pids_limit"]) == (100_000, 150_000, 512)
    assert "device_requests" not in given
    assert "privileged" not in given
    assert options.creation(spec(), PLACE)["user"] == "10001:10001"


def test_mounts_are_read_only_but_for_the_sockets():
    binds = host(mounts=(Mount("/srv/model", "/var/model"),))["mounts"]
    assert [(bind["Source"], bind["Target"], bind["ReadOnly"]) for bind in binds] == [
        ("/srv/model", "/var/model", True),
        ("/run/r/r1/s", "/run/s", False),
    ]


def test_an_image_keeps_its_own_command_user_path_and_folder():
    given = options.creation(spec(image="own:1", argv=(), image_user=True), PLACE)
    assert given["image"] == "own:1"
    assert not {"user", "entrypoint", "working_dir"} & set(given)
    assert not {"PATH", "HOME"} & set(given["environment"])
    plain = options.creation(spec(), PLACE)
    assert plain["environment"]["PATH"].startswith("/opt/env/bin:")
    assert plain["environment"]["OMP_NUM_THREADS"] == "2"
    assert plain["entrypoint"] == ["/opt/env/bin/python", "-m", "x"]


def test_only_images_get_more_folders_in_memory():
    assert set(host()["tmpfs"]) == {"/tmp"}
    assert set(host(image="own:1")["tmpfs"]) == {"/tmp", "/run", "/var/tmp"}
    assert "uid=10001,gid=10001" in host(image="own:1")["tmpfs"]["/run"]
    assert ",uid=" not in host(image="own:1", image_user=True)["tmpfs"]["/run"]


def test_graphics_cards_are_asked_for_whole():
    (asked,) = host(resources=Resources(1000, 256 * MIB, gpus=2))["device_requests"]
    assert (asked["Count"], asked["Capabilities"]) == (2, [["gpu"]])


def test_the_digest_tells_specs_apart_and_nothing_else(monkeypatch):
    same = options.digest(spec(), PLACE)
    assert options.digest(spec(), Place("other", "python:3.11-slim")) == same
    assert options.digest(spec(env={"A": "2"}), PLACE) != same
    assert options.digest(spec(), Place("abc", "python:3.12-slim")) != same
    assert options.digest(spec(network=Network.EGRESS), PLACE) != same
    monkeypatch.setattr(options, "OPEN_FILES", 1024)  # as another version of Portway might have it
    assert options.digest(spec(), PLACE) != same
    told = options.labels(spec(port=8000), PLACE)
    assert told["portway.label.workspace"] == "lab"
    assert (told["portway.installation"], told["portway.replica"], told["portway.port"]) == ("abc", "r1", "8000")


def test_a_label_of_the_spec_cannot_pass_for_one_of_ours():
    assert options.labels(spec(labels={"installation": "x", "portway.owner": "y"}), PLACE)["portway.owner"] == "portway"


def test_nothing_of_ours_is_inherited_from_an_image():
    told = options.labels(spec(), PLACE)
    assert told["portway.port"] == told["portway.build"] == ""
    assert all(told[name] for name in ("portway.installation", "portway.owner", "portway.replica", "portway.spec"))


@pytest.mark.parametrize(
    ("told", "port"),
    [
        ("8000", "8000"),
        ("65535", "65535"),
        *((each, "") for each in ("", "0", "65536", "080", "80@host", "8\n", "\u0668", "-1", "99999")),
    ],
)
def test_only_ports_are_taken_from_a_label(told, port):
    assert views.Container("i", "n", "running", "sha", "", labels={"portway.port": told}).port == port


def test_only_containers_of_our_names_are_listed(tmp_path, monkeypatch):
    driver = DockerDriver("unix:///none.sock", "abc", "python:3.11-slim", tmp_path)
    labels = {"portway.replica": "r1"}
    names = [["/portway-abc-r1"], ["/portway-abc-odd"], ["/portway-build-1"], ["/quiet_gauss"], []]
    told = [{"Id": f"id{index}", "Names": each, "Labels": labels} for index, each in enumerate(names)]
    client = SimpleNamespace(containers=lambda **more: told)
    monkeypatch.setattr(driver.engine, "obeyed", lambda: nullcontext(client))
    assert {handle.data.get("id") for handle in driver.list(owner="portway")} == {None, "id1"}


@pytest.mark.parametrize(
    ("euid", "rootless", "user"), [(0, False, "10001:10001"), (1000, False, "1000:100"), (1000, True, "0:0")]
)
def test_whom_replicas_run_as(euid, rootless, user):
    assert options.user_for(euid=euid, egid=100, rootless=rootless) == user


@pytest.mark.parametrize(
    ("network", "port", "kind"),
    [
        (Network.NONE, None, "none"),
        (Network.NONE, 80, "internal"),
        (Network.EGRESS, None, "egress"),
        (Network.EGRESS, 80, "egress"),
    ],
)
def test_kinds_of_networks(network, port, kind):
    assert networks.kind_of(spec(network=network, port=port)) == kind


@pytest.mark.parametrize(("code", "meant"), [(0, 0), (3, 3), (127, 127), (137, -9), (143, -15), (200, 200), (255, 255)])
def test_exit_codes(code, meant):
    assert views.exit_code(code) == meant


def container(**state):
    told = {"Id": "i", "Name": "/n", "Image": "sha", "Config": {}, "Created": "2026-01-01T00:00:00.123456789Z"}
    return views.container(told | {"State": {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"} | state})


def test_a_start_that_was_cut_short_is_told():
    seen = views.Observation("r1", State.STARTING)
    found = container()
    assert found.started is None
    assert views.unstarted(seen, found, now=found.created + timedelta(seconds=29)).state is State.STARTING
    late = views.unstarted(seen, found, now=found.created + timedelta(seconds=31))
    assert (late.state, late.failure.code) == (State.EXITED, "start_interrupted")
    failed = views.unstarted(seen, container(Error="no such device"), now=found.created)
    assert (failed.state, failed.failure.evidence) == (State.EXITED, "no such device")


def test_what_the_engine_adds_is_said():
    plain = {"SecurityOptions": ["name=seccomp,profile=default"], "BridgeNfIptables": True}
    assert views.extras(plain) == []
    assert views.extras({"SecurityOptions": ["name=rootless", "name=seccomp,profile=unconfined"]}) == [
        "rootless",
        "no seccomp",
    ]
    assert views.guarantees(plain | {"BridgeNfIptables": False})["network"] is False


def test_an_image_without_any_command_is_refused():
    with pytest.raises(programs.ImageError, match="has no command"):
        programs.program_of(spec(image="own:1", argv=()), {"Config": {"Entrypoint": None, "Cmd": None}})
    assert programs.program_of(spec(image="own:1", argv=()), {"Config": {"Entrypoint": ["/x"], "Cmd": ["y"]}}) == "/x"
    assert programs.program_of(spec(image="own:1", argv=()), {"Config": {"Cmd": ["x"]}}) == ""


def test_control_groups_of_another_machine_are_not_ours(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "7").mkdir()
    (tmp_path / "self" / "mounts").write_text("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    (tmp_path / "7" / "cgroup").write_text("0::/system.slice/docker-abc.scope\n")
    assert usage.groups("abc", 7, proc=tmp_path) == {"": Path("/sys/fs/cgroup/system.slice/docker-abc.scope")}
    assert usage.groups("other", 7, proc=tmp_path) == {}
    assert usage.groups("abc", 8, proc=tmp_path) == {}


def test_frames_come_in_any_pieces():
    data = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x02de\x01\0\0\0\0\0\0\x00"
    whole = [("stdout", b"abc"), ("stderr", b"de"), ("stdout", b"")]
    for size in (1, 2, 9, 100):
        assert list(frames(data[at : at + size] for at in range(0, len(data), size))) == whole


# -- marks


def stamp(seconds):
    at = START + timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Log:
    """An engine's log in memory: records in the order they were written, which need not be that of their times."""

    def __init__(self, *seconds):
        self.records = [logs.Record(stamp(at), "stdout", b"%d\n" % number) for number, at in enumerate(seconds)]

    def __call__(self, since, last):
        found = [record for record in self.records if logs.second(record.stamp) >= since]
        return iter(found[-last:] if last else found)

    def everything(self, after="", most_bytes=1):
        found = []
        while (chunk := logs.read(self, after, most_bytes)).lines:
            found += [int(line.text) for line in chunk.lines]
            after = chunk.mark
        return found, after


TIMES = [(0, 0, 0, 0), (0, 0.5, 0.4, 0.9, 1.2, 1.1), (0.9, 1.0, 0.95, 5, 5, 4.2, 60), (9, 8.5, 9, 9)]


@pytest.mark.parametrize("seconds", TIMES)
@pytest.mark.parametrize("most_bytes", [1, 4, 100])
def test_nothing_is_lost_or_doubled(seconds, most_bytes):
    log = Log(*seconds)
    assert log.everything(most_bytes=most_bytes)[0] == list(range(len(seconds)))


@pytest.mark.parametrize("seconds", TIMES)
def test_lines_written_after_a_mark_come_also_when_they_are_stamped_before_it(seconds):
    whole = Log(*seconds)
    for cut in range(1, len(seconds)):
        log = Log(*seconds[:cut])
        _, after = log.everything()
        log.records = whole.records
        assert log.everything(after)[0] == list(range(cut, len(seconds)))


def test_a_mark_is_the_same_however_one_came_there():
    log = Log(0, 0.5, 3, 3.2, 3.2)
    _, end = log.everything(most_bytes=1)
    assert end == log.everything(most_bytes=1000)[1] == logs.mark(log, 0)
    for back in range(1, 5):
        assert log.everything(logs.mark(log, back))[0] == list(range(5))[-back:]
    assert logs.mark(log, 5) == ""
    assert logs.mark(Log(), 0) == ""


@pytest.mark.parametrize("gone", [1, 3, 4, 5])
def test_after_a_rotation_reading_goes_on_or_begins_anew(gone):
    log = Log(0, 1, 1, 1.5, 8)
    log.records, rest = log.records[:4], log.records
    _, after = log.everything()
    log.records = [*rest, logs.Record(stamp(9), "stdout", b"5\n")][gone:]
    assert log.everything(after)[0] == ([4, 5] if gone < 4 else list(range(gone, 6)))


def test_a_mark_from_the_future_means_the_beginning():
    log = Log(0, 1)
    _, after = Log(500).everything()
    assert log.everything(after)[0] == [0, 1]


def test_text_is_that_of_a_terminal():
    record = logs.Record(stamp(0), "stderr", b"10%\r100%\r\n")
    assert record.line().text == "100%"
    assert logs.Record(stamp(0), "stdout", b"\0a\xff\n").line().text == "a\ufffd"


def test_a_socket_folder_used_as_a_disk_is_overfull(tmp_path):
    deep = tmp_path / "a" / "b"
    assert files.overfull(tmp_path / "none") is None
    deep.mkdir(parents=True)
    (deep / "small").write_bytes(b"x" * 4096)
    assert files.overfull(tmp_path) is None
    (deep / "large").write_bytes(b"x" * 2**20)
    assert files.overfull(tmp_path).code == "socket_folder_full"
    (deep / "large").unlink()
    for number in range(files.MOST_ENTRIES):
        (tmp_path / str(number)).touch()
    assert files.overfull(tmp_path) == files.FULL


def test_a_replica_with_an_overfull_socket_folder_is_ended(tmp_path, monkeypatch):
    driver = DockerDriver("unix:///none.sock", "abc", "python:3.11-slim", tmp_path)
    (tmp_path / "r1" / "s").mkdir(parents=True)
    (tmp_path / "r1" / "s" / "data").write_bytes(b"x" * 2**21)
    ended = []
    found = views.Container("i", "portway-abc-r1", "running", "sha", "")
    monkeypatch.setattr(driver, "_ours", lambda handle: found)
    monkeypatch.setattr(driver.engine, "info", dict)
    monkeypatch.setattr("apps.compute.drivers.docker.containers.end", lambda *given, **more: ended.append(given[1]))
    seen = driver.observe(Handle("docker", "r1"))
    assert (seen.state, seen.failure, ended) == (State.EXITED, files.FULL, [found])
