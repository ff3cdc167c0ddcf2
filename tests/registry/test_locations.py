"""Addresses of data, and the places they lead to: folders, uploads, the web."""

import http.server
import os
import shutil
import threading
import time

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.models import Upload
from apps.registry.queries import default_datastore
from apps.registry.stores.guard import is_public
from apps.registry.stores.local import root_of
from tests.world import tree_of

HOSTILE = """
azureml://datastores/workspaceblobstore/paths/../secrets
azureml://datastores/workspaceblobstore/paths//etc/passwd
azureml://datastores/workspaceblobstore/paths/a/./b
azureml://datastores/workspaceblobstore/paths/a/../../b
azureml://datastores/workspaceblobstore/paths/a\x07b
azureml://datastores/workspaceblobstore/paths/a\x00b
azureml://datastores/workspaceblobstore/paths/a\udcffb
azureml://datastores/workspaceblobstore/paths/.portway-partial-1
azureml://datastores/workspaceblobstore
azureml://datastores/nobody/paths/a
azureml://datastores/a\x00/paths/a
azureml://datastores/\udc00/paths/a
azureml:a\udc00:1
portway://data/a\x00/1
azureml://datastores/../paths/a
azureml://subscriptions/s/resourcegroups/r/workspaces/other/datastores/workspaceblobstore/paths/a
azureml://subscriptions/s/resourcegroups/r/workspaces/other/jobs/j/outputs/o/paths/a
/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/other/data/d/versions/1
azureml:nothing:1
azureml:nothing@latest
azureml:
azureml://jobs/j/outputs/o/paths/../a
portway://uploads/00000000-0000-0000-0000-000000000000
portway://uploads/------------------------------------
portway://data/nothing/1
file:///etc/passwd
/etc/passwd
wasbs://c@a.blob.core.windows.net/x
http://example.com/x
https://
https://user:password@example.com/x
https://exa mple.com/x
https://[::1/x
ftp://example.com/x
""".strip().split("\n")


def reason(code="bad-field"):
    class Check:
        def __enter__(self):
            self.raises = pytest.raises(Problem)
            self.info = self.raises.__enter__()
            return self.info

        def __exit__(self, *args):
            done = self.raises.__exit__(*args)
            assert self.info.value.code == code, self.info.value.message
            return done

    return Check()


@pytest.fixture
def root(workspace):
    folder = root_of(default_datastore(workspace))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def at(workspace, people):
    def resolve(path, uri="azureml://datastores/workspaceblobstore/paths/"):
        return locations.resolve(uri + path, workspace=workspace, actor=people["rita"])

    return resolve


@pytest.mark.parametrize("uri", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_addresses_are_refused_with_the_field(at, uri):
    with reason() as info:
        at("", uri)
    assert info.value.target == "uri"


STARTS = ["", "azureml://datastores/", "azureml://datastores/workspaceblobstore/paths/", "azureml:", "azureml://jobs/"]
STARTS += [
    "portway://data/",
    "portway://uploads/",
    "https://",
    "azureml://subscriptions/s/resourcegroups/r/workspaces/",
]


@given(st.sampled_from(STARTS), st.text(st.characters(), max_size=40) | st.text("/.:@?#%\\x[]ab", max_size=12))
@hypothesis.settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_written_it_is_a_place_or_a_problem(at, start, text):
    try:
        place = at("", start + text)
    except Problem as problem:
        assert (problem.entry.status, bool(str(problem))) == (400, True)  # noqa: PT017
    else:
        assert ".." not in place.path.split("/")
        assert at("", place.uri).uri == place.uri


@pytest.mark.parametrize("length", [300, 2000, 100_000])
def test_long_paths_are_refused(at, length):
    with reason():
        at("a" * length)


def test_the_long_forms_lead_to_the_same_place(at, workspace):
    short = at("a/b")
    assert short.uri == "azureml://datastores/workspaceblobstore/paths/a/b"
    assert (short.datastore.name, short.path) == ("workspaceblobstore", "a/b")
    for uri in (
        "azureml://subscriptions/s/resourcegroups/r/workspaces/LAB/datastores/workspaceblobstore/paths/a/b",
        f"{workspace.arm_id}/datastores/workspaceblobstore/paths/a/b",
        f"azureml:/{workspace.arm_id}/datastores/workspaceblobstore/paths/a/b/",
    ):
        assert at("", uri) == short


def test_strangers_resolve_nothing(workspace, people):
    with reason("not-found"):
        locations.resolve(
            "azureml://datastores/workspaceblobstore/paths/a", workspace=workspace, actor=people["charlie"]
        )


def test_workspaces_have_different_folders(workspace, root):
    other = root_of(default_datastore(Workspace.objects.create(name="third")))
    assert other != root
    assert other.is_dir()


def test_files_are_sorted_by_their_whole_path(at, root):
    for name in ("d/b.txt", "d/b/x", "d/b-1", "d/.hidden", "d/~tmp", "d/ö"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    names = [name for name, _ in at("d").files()]
    assert names == sorted(names) == [".hidden", "b-1", "b.txt", "b/x", "~tmp", "ö"]
    assert [name for name, _ in at("d").files(nested=False)] == [".hidden", "b-1", "b.txt", "~tmp", "ö"]
    assert dict(at("d").files())["b/x"] == len("d/b/x")
    assert list(at("d/b.txt").files()) == [("b.txt", 7)]
    assert [at(path).kind() for path in ("d", "d/b.txt", "nothing", "d/b.txt/below")] == ["folder", "file", None, None]
    with reason("limit"):
        list(at("d").files(most=3))
    with reason():
        list(at("nothing").files())


def test_links_and_special_files_are_refused(at, root, tmp_path):
    (tmp_path / "secret").write_text("s")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    for path in ("out", "out/secret", "loop"):
        with reason():
            at(path).kind()
    (root / "d").mkdir()
    (root / "d" / "link").symlink_to(root)
    with reason() as info:
        list(at("d").files())
    assert "link" in info.value.message
    (root / "f").mkdir()
    os.mkfifo(root / "f" / "pipe")
    with reason():
        list(at("f").files())
    for path in ("f/pipe", "d"):
        with reason():
            at(path).open()
    with reason():
        at("f").open("../d")


def test_reading_and_fetching(at, root, tmp_path):
    (root / "d").mkdir()
    (root / "d" / "d").write_bytes(b"x" * 3_000_000)
    assert at("d").fetch("d", tmp_path / "new" / "copy") == 3_000_000
    assert (tmp_path / "new" / "copy").read_bytes() == b"x" * 3_000_000
    assert at("d/d").open("d").read(2) == b"xx"
    assert at("d").child("d").local_path() == root / "d" / "d"
    with reason():
        at("d").child("../x")
    with reason():
        at("d").fetch("nothing", tmp_path / "copy")
    assert list(tmp_path.rglob(".portway*")) == []


def test_a_fetch_never_fills_the_disk(at, root, tmp_path, monkeypatch):
    (root / "f").write_bytes(b"x" * 100)
    monkeypatch.setattr("apps.registry.storage.KEPT_FREE", 2**60)
    with reason("disk-full"):
        at("f").fetch("", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_ever_overwritten(at, root, tmp_path):
    source = tmp_path / "s"
    (source / "a").mkdir(parents=True)
    (source / "a" / "b").write_text("1")
    at("out/j1").put(source)
    at("out/f1").put(source / "a" / "b")
    assert list(at("out").files()) == [("f1", 1), ("j1/a/b", 1)]
    (source / "a" / "b").write_text("other")
    for path in ("out/j1", "out/f1", "out/f1/below", "out"):
        for what in (source, source / "a" / "b"):
            with reason("output-exists"):
                at(path).put(what)
    assert list(at("out").files()) == [("f1", 1), ("j1/a/b", 1)]
    assert [each for each in root.rglob("*") if "partial" in each.name] == []
    at("out/j1").delete()
    assert not at("out/j1").exists()
    with reason("unsupported"):
        at("").put(source)
    with reason("unsupported"):
        at("").delete()
    (source / "link").symlink_to("/etc")
    for what in (source, source / "link", source / "nothing"):
        with reason("upload-refused"):
            at("out/j2").put(what)
    assert not at("out/j2").exists()


def test_of_many_writers_one_wins(at, root, tmp_path):
    sources = []
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in range(50):
            (folder / str(name)).write_text(str(number))
        sources.append(folder)
    place, wins, codes = at("race/out"), [], []
    start = threading.Barrier(8)

    def write(folder):
        start.wait()
        try:
            place.put(folder)
            wins.append(folder.name)
        except Problem as problem:
            codes.append(problem.code)

    threads = [threading.Thread(target=write, args=[each]) for each in sources]
    [each.start() for each in threads]
    [each.join() for each in threads]
    assert len(wins) == 1
    assert codes == ["output-exists"] * 7
    assert {place.open(name).read().decode() for name, _ in place.files()} == set(wins)


def test_many_files(at, root):
    for folder in range(10):
        (root / "many" / f"{folder:02}").mkdir(parents=True)
        for number in range(1000):
            (root / "many" / f"{folder:02}" / f"{number:05}.csv").touch()
    start = time.monotonic()
    assert sum(1 for _ in at("many").files()) == 10_000
    print(f"{time.monotonic() - start:.3f} s for 10,000 files")


def test_uploads_keep_their_workspace(at, workspace, people):
    upload = Upload.objects.create(workspace=workspace, tree=tree_of(top__a="1", top__b="2"), path="top")
    place = at("", upload.uri)
    assert [name for name, _ in place.files()] == ["a", "b"]
    assert place.local_path().is_dir()
    assert place.tree == upload.tree
    with reason("unsupported"):
        place.put(place.local_path())
    with reason("unsupported"):
        place.child("x").delete()
    assert at("", f"portway://uploads/{upload.pk}/top/a").kind() == "file"
    with reason() as info:
        at("", f"portway://uploads/{upload.pk}/../x")
    assert info.value.target == "uri"
    with reason():
        other = Workspace.objects.get(name="other")
        locations.resolve(upload.uri, workspace=other, actor=people["charlie"])


def test_jobs_are_asked_for_their_outputs(at, workspace, monkeypatch):
    monkeypatch.setattr(locations, "_jobs", [])
    with reason():
        at("", "azureml://jobs/j/outputs/score/paths/x")
    asked = []
    locations.resolve_jobs_with(lambda *given: asked.append(given) or at("out"))
    assert at("", "azureml://jobs/j/outputs/score/paths/x/y").path == "out"
    assert at("", "azureml://jobs/j/outputs/score").path == "out"
    assert asked == [(workspace, "j", "score", "x/y"), (workspace, "j", "score", "")]


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True)]
    + [
        (each, False)
        for each in """127.0.0.1 10.0.0.1
        172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 ::1 ::
        fe80::1 fe80::1%eth0 fc00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ff02::1
        255.255.255.255""".split()
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


class Web(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/drip":
            self.drip()
            return
        body = {"/data.csv": b"a,b\n1,2\n", "/short": b"abc"}.get(self.path.partition("?")[0])
        if self.path.startswith("/up/"):
            body = b"abc"
        self.send_response(500 if self.path == "/broken" else 403 if self.path == "/no" else 200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"") + (5 if self.path == "/short" else 0)))
        self.end_headers()
        self.wfile.write(body or b"")

    def drip(self):
        """A byte now and then, and no end."""
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(2000):
                self.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            self.asked.append("gone")

    def log_message(self, *args):
        pass


@pytest.fixture
def web(settings):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    Web.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.INPUT_HOSTS_ALLOWED = frozenset({f"127.0.0.1:{server.server_port}"})
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_of_the_web(at, web, tmp_path):
    place = at("", f"{web}/data.csv?sig=abc")
    assert place.kind() == "file"
    assert list(place.files()) == [("data.csv", 8)]
    assert place.fetch("data.csv", tmp_path / "copy") == 8
    assert (tmp_path / "copy").read_bytes() == b"a,b\n1,2\n"
    assert place.local_path() is None
    assert at("", f"{web}/to//data.csv").open().read() == b"a,b\n1,2\n"
    assert at("", f"{web}/nothing").kind() is None
    with reason():
        place.child("x")
    with reason("unsupported"):
        place.put(tmp_path / "copy")


def test_what_the_web_refuses_is_said(at, web, tmp_path, settings):
    with reason():
        at("", f"{web}/no").kind()
    with reason("unavailable"):
        at("", f"{web}/broken").kind()
    with reason("unavailable"):
        at("", f"{web}/short").fetch("", tmp_path / "copy")
    for onward in ("ftp://127.0.0.1/x", "file:///etc/passwd", "http://127.0.0.1:1/x", f"{web}/to/" * 9):
        with reason():
            at("", f"{web}/to/{onward}").open()
    assert list(tmp_path.iterdir()) == []
    settings.LIMITS = settings.LIMITS | {"upload_bytes": 5}
    with reason("upload-too-large"):
        at("", f"{web}/data.csv").fetch("", tmp_path / "copy")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1"])
def test_the_web_is_never_what_is_around_us(at, web, settings, host):
    """Not by address, by name, nor by number: the server does not see a byte."""
    settings.INPUT_HOSTS_ALLOWED = frozenset()
    with pytest.raises(Problem) as info:
        at("", f"https://{host}:{web.rpartition(':')[2]}/data.csv").kind()
    assert info.value.code in {"bad-field", "unavailable"}
    assert Web.asked == []


def test_nor_where_the_web_leads(at, web):
    onward = f"https://localhost:{web.rpartition(':')[2]}/data.csv"
    with reason() as info:
        at("", f"{web}/to/{onward}").kind()
    assert "not a public address" in info.value.message
    assert Web.asked == [f"/to/{onward}"]


def test_a_refused_address_says_how_to_allow_it(at, web, settings):
    settings.INPUT_HOSTS_ALLOWED = frozenset()
    with reason() as info:
        at("", f"{web.replace('http', 'https')}/data.csv").kind()
    assert "not a public address" in info.value.message
    assert "PORTWAY_INPUT_HOSTS" in info.value.next_step


def test_a_place_that_drips_is_left_at_its_deadline(at, web, tmp_path, settings):
    settings.FETCH_S = 1
    place = at("", f"{web}/drip")
    with reason("unavailable") as late:
        place.fetch("drip", tmp_path / "copy")
    assert "not whole after 1 s" in late.value.evidence
    assert list(tmp_path.iterdir()) == []


def test_the_web_cannot_name_a_file_that_leads_elsewhere(at, web):
    with reason() as refusal:
        list(at("", f"{web}/up/a%20..").files())
    assert "it holds '..'" in refusal.value.params["reason"]
