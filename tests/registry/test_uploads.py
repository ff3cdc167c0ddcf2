"""Strangers' archives: each attack is refused with a reason and leaves nothing behind."""

import errno
import io
import stat
import struct
import threading
import uuid
import zipfile
import zlib
from contextlib import nullcontext

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from apps.core.errors import Problem
from apps.registry import storage, uploads
from apps.registry.models import Tree, Upload
from apps.registry.uploads import receive


def packed(*members, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, content)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def special(name, kind, content=b"/etc/passwd"):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return packed((info, content))


def patched(data, signature, offset, value):
    """The archive with bytes replaced at an offset from each occurrence of a signature."""
    data, at = bytearray(data), 0
    while (at := data.find(signature, at)) >= 0:
        data[at + offset : at + offset + len(value)] = value
        at += 4
    return bytes(data)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
PLAIN = packed(("a/model.pkl", b"hello " * 50))
STORED = packed(("a", b"abcdef"), method=zipfile.ZIP_STORED)


def two(first, second):
    with pytest.warns(UserWarning, match="Duplicate") if first == second else nullcontext():
        return packed((first, b"1"), (second, b"2"))


def renamed(placeholder, raw):
    """A member with a name that Python would not write."""
    return packed((placeholder, b"x")).replace(placeholder.encode(), raw)


ATTACKS = {
    "zip slip": lambda: packed(("../evil", b"x")),
    "zip slip inside": lambda: packed(("a/../../evil", b"x")),
    "zip slip by backslash": lambda: packed(("..\\evil", b"x")),
    "dots by backslash": lambda: packed(("a\\..\\..\\evil", b"x")),
    "absolute": lambda: packed(("/etc/evil", b"x")),
    "absolute by backslash": lambda: packed(("\\etc\\evil", b"x")),
    "drive": lambda: packed(("C:\\evil", b"x")),
    "drive by slash": lambda: packed(("C:/evil", b"x")),
    "empty name": lambda: renamed("a", b"\x2e"),
    "newline in the name": lambda: packed(("a\nb", b"x")),
    "escape in the name": lambda: packed(("a\x1b[31m", b"x")),
    "bad UTF-8 in the name": lambda: patched(renamed("aaa\u00e9", b"aaa\xff\xfe"), CENTRAL, 8, b"\x00\x08"),
    "symlink": lambda: special("link", stat.S_IFLNK),
    "symlink that looks like a folder": lambda: special("link/", stat.S_IFLNK),
    "fifo": lambda: special("pipe", stat.S_IFIFO),
    "block device": lambda: special("sda", stat.S_IFBLK),
    "character device": lambda: special("null", stat.S_IFCHR),
    "socket": lambda: special("sock", stat.S_IFSOCK),
    "the same name twice": lambda: two("a", "a"),
    "the same name by backslash": lambda: two("a/b", "a\\b"),
    "the same name by dot": lambda: two("a/b", "a/./b"),
    "a file as a folder": lambda: two("a", "a/b"),
    "a folder as a file": lambda: two("a/b", "a"),
    "a long name": lambda: packed(("n" * 256, b"x")),
    "a long name in bytes": lambda: packed(("\u00e9" * 130, b"x")),
    "a long path": lambda: packed(("d/" * 200 + "f", b"x")),
    "too many folders": lambda: packed(("d/" * 40 + "f", b"x")),
    "ratio bomb": lambda: packed(("zeros", b"\0" * 30_000_000)),
    "10 GB declared": lambda: patched(PLAIN, CENTRAL, 24, struct.pack("<I", 0xFFFFFFF0)),
    "declares less than it holds": lambda: patched(
        patched(PLAIN, CENTRAL, 24, struct.pack("<I", 3)), LOCAL, 22, struct.pack("<I", 3)
    ),
    "declares more than it holds": lambda: patched(PLAIN, CENTRAL, 24, struct.pack("<I", 100_000)),
    "encrypted": lambda: patched(patched(PLAIN, CENTRAL, 8, b"\x01"), LOCAL, 6, b"\x01"),
    "LZMA": lambda: packed(("a", b"x" * 100), method=zipfile.ZIP_LZMA),
    "bzip2": lambda: packed(("a", b"x" * 100), method=zipfile.ZIP_BZIP2),
    "an unknown method": lambda: patched(PLAIN, CENTRAL, 10, b"\x63\x00"),
    "truncated": lambda: PLAIN[:-30],
    "truncated in front": lambda: PLAIN[20:],
    "damaged content": lambda: PLAIN[:45] + b"\xff\xff\xff\xff" + PLAIN[49:],
    "wrong checksum": lambda: STORED.replace(b"abcdef", b"abcdeX"),
    "directory elsewhere": lambda: patched(PLAIN, END, 16, struct.pack("<I", 0x7FFFFFFF)),
    "huge directory": lambda: patched(PLAIN, END, 12, struct.pack("<I", 0x7FFFFFFF)),
    "zip64 nonsense": lambda: patched(PLAIN, END, 8, b"\xff" * 12),
    "not a zip": lambda: b"hello",
    "empty": lambda: b"",
    "empty zip": packed,
    "only folders": lambda: packed(("a/", b""), ("a/b/", b"")),
}


def nothing_left():
    assert not list(settings.HOME.uploads.iterdir())
    assert not Upload.objects.exists()
    assert not Tree.objects.exists()


def send(workspace, data, name="model.zip"):
    return receive(workspace=workspace, archive=SimpleUploadedFile(name, data), files=[], paths=[], actor=None)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(workspace, attack):
    with pytest.raises(Problem) as caught:
        send(workspace, ATTACKS[attack]())
    assert caught.value.code in {"upload-refused", "upload-too-large"}, caught.value.evidence
    assert caught.value.message.isprintable()
    nothing_left()


def test_more_members_than_allowed(workspace):
    """100,000 members, by their number and by the size of their list."""
    many = packed(*((f"f{number}", b"") for number in range(50_001)), method=zipfile.ZIP_STORED)
    with pytest.raises(Problem, match="50001 members"):
        send(workspace, many)
    nothing_left()


def test_more_than_allowed_in_all(workspace, settings):
    settings.LIMITS = {**settings.LIMITS, "upload_bytes": 1000}
    for data in (packed(("a", b"x" * 600), ("b", b"x" * 600)), packed(("a", b"x" * 1001))):
        with pytest.raises(Problem) as caught:
            send(workspace, data)
        assert caught.value.code == "upload-too-large"
    with pytest.raises(Problem) as caught:
        receive(workspace=workspace, archive=None, files=[SimpleUploadedFile("a", b"x" * 1001)], paths=[], actor=None)
    assert caught.value.code == "upload-too-large"
    nothing_left()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["writing", "storing"])
def test_a_disk_that_fills_up_leaves_nothing(workspace, monkeypatch, number, where):
    def full(*_, **__):
        raise OSError(number, "No space left on device")

    if where == "writing":
        monkeypatch.setattr(storage.Room, "take", full)
    else:
        monkeypatch.setattr(storage.Path, "rename", full)
    content = uuid.uuid4().bytes
    archive = SimpleUploadedFile("m.zip", packed(("a", content)))
    for sent in ({"archive": archive, "files": []}, {"archive": None, "files": [SimpleUploadedFile("a", content)]}):
        with pytest.raises(Problem) as caught:
            receive(workspace=workspace, paths=[], actor=None, **sent)
        assert caught.value.code == "disk-full"
        nothing_left()


def test_a_nearly_full_disk_is_not_filled_further(workspace, monkeypatch):
    usage = lambda _: type("Usage", (), {"free": storage.KEPT_FREE + 100})  # noqa: E731
    monkeypatch.setattr(storage.shutil, "disk_usage", usage)
    with pytest.raises(Problem) as caught:
        send(workspace, PLAIN)
    assert caught.value.code == "disk-full"
    nothing_left()


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ([("model/MLmodel", b"x"), ("model/data/model.pkl", b"y")], "model"),
        ([("a/x", b"x"), ("b/y", b"y")], ""),
        ([("model.pkl", b"x")], ""),
        ([("a/", b""), ("a/b/", b""), ("a/b/c", b"x")], "a"),
        ([("Model", b"x"), ("model", b"y")], ""),
        ([("caf\u00e9/\u6a21\u578b.pkl", b"x")], "caf\u00e9"),
        ([("a\\b", b"x")], "a"),
    ],
)
def test_what_is_fine_is_stored_as_it_is(workspace, members, path):
    upload = send(workspace, packed(*members))
    assert upload.path == path
    root = storage.tree_path(upload.tree_id)
    files = {each.relative_to(root).as_posix(): each.read_bytes() for each in root.rglob("*") if each.is_file()}
    assert files == {name.replace("\\", "/"): data for name, data in members if not name.endswith("/")}
    assert not list(settings.HOME.uploads.iterdir())


@pytest.mark.parametrize("name", ["model.pkl", "model.pt", "model.joblib"])
def test_one_file_stays_one_file_even_when_it_is_a_zip_itself(workspace, name):
    upload = send(workspace, PLAIN, name)
    assert (storage.tree_path(upload.tree_id) / name).read_bytes() == PLAIN
    assert upload.path == ""


@pytest.mark.parametrize("name", ["m.tar.gz", "m.tgz", "m.TAR", "m.7z"])
def test_other_archives_are_named_in_the_refusal(workspace, name):
    with pytest.raises(Problem, match="other than zip"):
        send(workspace, b"x", name)


def test_files_with_their_paths(workspace):
    files = [SimpleUploadedFile("MLmodel", b"x"), SimpleUploadedFile("model.pkl", b"y")]
    upload = receive(
        workspace=workspace, archive=None, files=files, paths=["m/MLmodel", "m/data/model.pkl"], actor=None
    )
    assert (upload.path, upload.tree.files) == ("m", 2)


@pytest.mark.parametrize(
    "paths", [["a"], ["../a", "b"], ["/a", "b"], ["a", "a"], ["a", "a/b"], ["", "b"], ["a\ud800", "b"], ["a\0", "b"]]
)
def test_files_with_bad_paths(workspace, paths):
    files = [SimpleUploadedFile("x", b"x"), SimpleUploadedFile("y", b"y")]
    with pytest.raises(Problem) as caught:
        receive(workspace=workspace, archive=None, files=files, paths=paths, actor=None)
    assert caught.value.code == "upload-refused"
    nothing_left()


def test_nothing_sent(workspace):
    with pytest.raises(Problem, match="send a zip"):
        receive(workspace=workspace, archive=None, files=[], paths=[], actor=None)


def test_equal_uploads_at_the_same_moment_share_one_tree(transactional_db, workspace):
    made, failed = [], []
    gate = threading.Barrier(6)

    def one():
        try:
            gate.wait(30)
            made.append(send(workspace, PLAIN))
        except Exception as error:  # noqa: BLE001
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert len({each.tree_id for each in made}) == 1
    assert Tree.objects.count() == 1
    assert not list(settings.HOME.uploads.iterdir())


def test_permissions_and_executables(workspace):
    info = zipfile.ZipInfo("run.sh")
    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o6777) << 16
    upload = send(workspace, packed((info, b"x")))
    mode = (storage.tree_path(upload.tree_id) / "run.sh").stat().st_mode
    assert stat.S_IMODE(mode) in {0o444, 0o555}


def test_damage_raises_only_what_is_caught():
    """Every single damaged byte of an archive is a refusal or a success, never a crash."""
    import tempfile
    from pathlib import Path

    for at in range(len(PLAIN)):
        for value in (0x00, 0xFF, PLAIN[at] ^ 0x01):
            data = PLAIN[:at] + bytes([value]) + PLAIN[at + 1 :]
            with tempfile.TemporaryDirectory() as folder:
                try:
                    uploads.unpack(io.BytesIO(data), Path(folder))
                except Problem as problem:
                    assert problem.code in {"upload-refused", "upload-too-large"}  # noqa: PT017
    assert zlib.crc32(PLAIN)
