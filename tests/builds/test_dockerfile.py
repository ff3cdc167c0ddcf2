"""Reading Dockerfiles and packing contexts, without an engine."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import time

import pytest

from apps.builds import dockerfile
from apps.builds.dockerfile import ContextError


def pack(root, text="FROM x\n", name="Dockerfile", ca=b"", most=10_000):
    into = io.BytesIO()
    dockerfile.pack(root, name, text, into, ca=ca, most=most)
    return into.getvalue()


def names(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM x\n")
    return folder


def test_equal_content_is_an_equal_tar(root):
    (root / "b").mkdir()
    (root / "b" / "a.txt").write_text("a")
    first = pack(root)
    os.utime(root / "b" / "a.txt", (1, 1))
    assert pack(root) == first
    assert names(first) == ["Dockerfile", "b", "b/a.txt"]


def test_dockerignore_counts_but_never_hides_the_dockerfile(root):
    (root / ".dockerignore").write_text("# secrets\n*.key\nDockerfile\n")
    (root / "my.key").write_text("secret")
    (root / "score.py").write_text("")
    assert set(names(pack(root))) == {".dockerignore", "Dockerfile", "score.py"}


def test_links_that_leave_the_context_are_refused(root):
    (root / "fine").symlink_to("Dockerfile")
    assert "fine" in names(pack(root))
    for target in ("/etc/passwd", "../outside", "fine/../../x"):
        (root / "evil").unlink(missing_ok=True)
        (root / "evil").symlink_to(target)
        with pytest.raises(ContextError, match="outside of the build context"):
            pack(root)


def test_special_files_and_too_much_are_refused(root):
    (root / "huge").write_bytes(b"x" * 20_000)
    with pytest.raises(ContextError, match="larger than"):
        pack(root)
    (root / "huge").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(ContextError, match="special file"):
        pack(root)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../Dockerfile", "", "a/../../b", "nothing", "Docker\nfile", "x" * 5000]
)
def test_a_dockerfile_lies_in_the_context(root, path):
    with pytest.raises((ContextError, OSError)):
        dockerfile.read(root, path)


def test_a_dockerfile_is_text(root):
    (root / "Dockerfile").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContextError, match="UTF-8"):
        dockerfile.read(root, "Dockerfile")


MANY = """\
# syntax comment
ARG BASE=python
ARG TAG
FROM --platform=linux/amd64 ${BASE}:${TAG:-3.11} AS build
RUN echo FROM \\
    # a comment in between
    nowhere
FROM build
FROM scratch as last
COPY --from=build /x /x
COPY --from=0 /x /x
COPY --chown=1:1 --from=other:2 /x /x
FROM $BASE
"""


def test_the_images_of_a_dockerfile():
    assert dockerfile.images(MANY, {}) == ["python:3.11", "other:2", "python"]
    assert dockerfile.images(MANY, {"BASE": "debian", "TAG": "12"}) == ["debian:12", "other:2", "debian"]
    for text in ("", "RUN x", "ARG X\nFROM $X", "FROM ${X:-}", "FROM", "FROM a\nONBUILD COPY --from=b /x /x"):
        with pytest.raises(ContextError):
            dockerfile.images(text, {})


HIDDEN = [
    "FROM a\nRUN x \\\x0b\nFROM evil",
    "FROM a\nRUN x \\\nFROM evil",
    "FROM a\nRUN x \\\n  # a comment\n  FROM evil",
    "FROM a\nRUN x \\\nCOPY --from=evil / /",
    "# escape=`\nFROM a\nRUN x \\\nFROM evil",
    "# syntax=x\n#ESCAPE = `\nFROM a",
    "FROM a\u2028FROM evil",
    "FROM a\nCOPY --fr\\om=evil / /",
    "FROM a\nCOPY --from=$EVIL / /",
    'FROM a\nCOPY --from="evil" / /',
    "FROM a\nNONSENSE x",
    "FROM a\nFR`\nOM evil",
    "FROM a\nONBUILD COPY --from=evil / /",
]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_builders_read_differently_is_refused(text):
    """An image that we overlook could be the one of another workspace."""
    with pytest.raises(ContextError):
        dockerfile.images(text, {})


@pytest.mark.parametrize(
    "text",
    ["FR\\\nOM evil", "from\tevil", "  From  evil  AS x ", "FROM a\nFROM evil", "FROM \\\n# c\n\n  evil\r\nRUN x"],
)
def test_every_way_to_write_from_is_seen(text):
    assert dockerfile.images(text, {})[-1] == "evil"


@pytest.mark.parametrize(
    "text", ["FROM a\nCOPY " + "-" * 99_000 + " / /", "FROM " + "${a:-" * 19_000, "FROM a\nCOPY " + "--a " * 24_000]
)
def test_no_line_takes_long_to_read(text):
    began = time.process_time()
    with contextlib.suppress(ContextError):
        dockerfile.images(text, {})
    assert time.process_time() - began < 0.5


def test_a_joined_line_that_is_too_long_is_refused():
    with pytest.raises(ContextError, match="line 2: the instruction is longer than 100000 characters"):
        dockerfile.images("FROM a\nRUN x" + " \\\n yyyyyyyy" * 20_000, {})


@pytest.mark.parametrize(
    "line",
    [
        "ADD http://localhost/ /x",
        'ADD --chown=1:1 ["ht$A", "/x"]',
        "ADD git@host:a/b /x",
        "ADD $WHERE /x",
        'ADD h"t"tp:"//"x /x',
        "ADD http:\\//x /x",
        "ONBUILD ADD http://localhost/ /x",
    ],
)
def test_add_fetches_nothing(line):
    with pytest.raises(ContextError, match="line 2: ADD takes files"):
        dockerfile.images(f"FROM a\n{line}", {})
    dockerfile.images("FROM a\nADD a.tar.gz b $HOME/\nRUN curl https://x", {})


@pytest.mark.parametrize(
    "trigger", ["COPY --from=evil / /", "ADD http://x /", "COPY --fr\\om=evil / /", "COPY \\\n--from=a / /"]
)
def test_triggers_of_a_base_image_follow_the_same_rules(trigger):
    dockerfile.check_triggers("base", ["COPY . /app", "RUN pip install --from-nothing".replace("--from", "--no")])
    with pytest.raises(ContextError, match="image base has ONBUILD"):
        dockerfile.check_triggers("base", [trigger])


def test_a_number_is_a_stage_for_copy_only():
    assert dockerfile.images("FROM a\nCOPY --from=0 / /\nCOPY --from=1 / /\nFROM 0", {}) == ["a", "1", "0"]


def test_patterns_that_take_for_ever_are_refused(root):
    (root / ".dockerignore").write_text("*a" * 50)
    with pytest.raises(ContextError, match="too many stars"):
        pack(root)


def test_our_lines_come_behind_each_from():
    text = dockerfile.prepared("FROM a \\\n AS b\nRUN x\nFROM b\n", ca=True, arguments={"PIP_INDEX_URL": "secret"})
    lines = text.splitlines()
    assert lines[2] == "COPY .portway-ca.pem /etc/portway/ca.pem"
    assert lines[-1] == "ARG PIP_INDEX_URL"
    assert lines.count("ARG PIP_INDEX_URL") == 2
    assert "secret" not in text
    assert not any(line.startswith("ENV") for line in lines)
    assert dockerfile.prepared("FROM a", ca=False, arguments={}) == "FROM a"
