"""Dockerfiles built by the real engine."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress

import docker
import pytest

from apps.builds import domain, imagebuild
from apps.builds.domain import EnvironmentSpec
from apps.builds.models import Build
from apps.core.errors import Problem
from apps.registry import storage
from tests.engine import BASE, steps_left

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker, pytest.mark.usefixtures("docker_client")]


@pytest.fixture(autouse=True)
def failed_layers(docker_client):
    """What failed builds had made stays on the engine until it is pruned; here at once."""
    yield
    for layer in Build.objects.filter(state="failed").exclude(image_id="").values_list("image_id", flat=True):
        with suppress(docker.errors.APIError):
            docker_client.images.remove(layer)


def context(text, name="Dockerfile", **files):
    with storage.scratch() as folder:
        for path, content in {name: text, **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        return storage.adopt(folder).pk


def ensure(tree, lines=None, check=lambda: None, **spec):
    log = (lines if lines is not None else []).append
    asked = EnvironmentSpec(context=tree, name="My.Env", **spec)
    return domain.ensure(asked, driver="docker", log=log, check=check)


def test_a_dockerfile_is_built_once_and_again_when_its_image_is_gone(docker_client, settings):
    tree = context(
        f"FROM {BASE}\nCOPY score.py /score.py\nRUN echo one && printf '\\033[31mtwo\\033[0m\\n'\n", **{"score.py": "1"}
    )
    lines = []
    made = ensure(tree, lines)
    assert "one" in lines
    assert "two" in lines
    image = docker_client.images.get(made.image)
    tag = f"portway/{settings.HOME.installation}/my-env:{made.key[:12]}"
    assert (image.id, image.tags) == (made.image, [tag])
    assert image.labels["portway.built-by"] == settings.HOME.installation
    assert (str(made.python), made.path) == ("/usr/bin/python3", None)
    assert made.overlay.is_dir()
    build = Build.objects.get()
    assert (build.kind, build.image, build.image_id, build.state) == ("image", tag, made.image, "succeeded")
    assert build.size_bytes > 1000
    assert "two" in build.log

    again = []
    assert ensure(tree, again) == made
    assert any("built before" in line for line in again)
    docker_client.images.remove(tag, force=True)
    lines.clear()
    rebuilt = ensure(tree, lines)
    assert docker_client.images.get(tag).id == rebuilt.image
    assert any("Step 1/" in line for line in lines)


def test_a_failing_step_is_named_with_the_line_that_proves_it(docker_client):
    tree = context(
        f"FROM {BASE}\nRUN echo fine\nRUN echo before; echo 'ERROR: no such thing' >&2; echo after; exit 7\n"
    )
    with pytest.raises(Problem) as failed:
        ensure(tree)
    assert failed.value.code == "environment-failed"
    assert failed.value.entry.azure == "ImageBuildFailure"
    assert "step 3 of 4: RUN echo before" in failed.value.message
    assert "exit code 7" in failed.value.message
    assert failed.value.evidence == "ERROR: no such thing"
    assert steps_left(docker_client, "no such thing") == []
    build = Build.objects.get()
    assert (build.state, build.error["code"]) == ("failed", "environment-failed")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"FROM {BASE}\nNONSENSE x\n", "no instruction 'NONSENSE'"),
        (f"FROM {BASE}\nCOPY onlyone\n", "cannot read the Dockerfile"),
        (f"FROM {BASE}\nCOPY nothing /x\n", "COPY nothing /x"),
        ("RUN x\n", "no FROM"),
        ("FROM $X\n", "has no name here"),
    ],
)
def test_a_dockerfile_that_is_wrong_is_the_users_fault(text, reason):
    with pytest.raises(Problem) as failed:
        ensure(context(text))
    assert failed.value.code == "environment-failed"
    assert reason in failed.value.message


@pytest.mark.parametrize("path", ["Dockerfile", "../x", "/etc/passwd", "sub/none"])
def test_a_missing_dockerfile_is_the_users_fault(path):
    with pytest.raises(Problem) as failed:
        ensure(context("FROM x", name="Other"), dockerfile=path)
    assert failed.value.code == "environment-failed"
    assert "build context" in failed.value.message


def test_images_of_others_cannot_be_built_upon(docker_client):
    image = docker_client.images.get(BASE).id
    for name in ("portway/abc/secret:123", image):
        with pytest.raises(Problem) as failed:
            ensure(context(f"FROM {BASE}\nCOPY --from={name} /etc/passwd /x\n"))
        assert failed.value.code == "bad-field"


def test_a_base_that_nobody_has_is_explained():
    with pytest.raises(Problem) as failed:
        ensure(context("FROM localhost:9/nothing:1\n"))
    assert failed.value.code == "image-unavailable"
    assert "localhost:9/nothing:1" in failed.value.message


def test_a_step_without_network_is_the_systems_fault(settings):
    settings.BUILD_NETWORK = "none"
    code = "import urllib.request; urllib.request.urlopen('http://nowhere.invalid')"
    with pytest.raises(Problem) as failed:
        ensure(context(f'FROM {BASE}\nRUN python -c "{code}"\n'))
    assert failed.value.code == "build-unavailable"
    assert "resolution" in failed.value.evidence or "not known" in failed.value.evidence


def test_a_cancel_ends_the_build_and_leaves_nothing(docker_client):
    mark = uuid.uuid4().hex
    tree = context(f"FROM {BASE}\nRUN echo {mark} > /made\nRUN echo started; sleep 170 # {mark}\n")
    lines = []

    def check():
        if "started" in lines:
            assert steps_left(docker_client, mark)
            raise Problem("canceled")

    with pytest.raises(Problem, match="canceled"):
        ensure(tree, lines, check=check)
    assert eventually(lambda: steps_left(docker_client, mark) == [])


def eventually(true):
    pause = threading.Event()
    return any(true() or pause.wait(0.2) for _ in range(100))


def test_a_build_that_never_ends_is_ended(docker_client, settings):
    settings.BUILD_TIMEOUT_S = 3
    with pytest.raises(Problem) as failed:
        ensure(context(f"FROM {BASE}\nRUN sleep 170\n"))
    assert failed.value.code == "environment-failed"
    assert "longer than 3 s" in failed.value.message
    assert "RUN sleep 170" in failed.value.message


def test_the_operators_bundle_and_index_reach_the_build_and_stay_out_of_the_image(docker_client, settings, tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("a bundle")
    settings.BUILD_CA = str(bundle)
    settings.BUILD_INDEX_URL = "https://bot:hunter22@index.example/simple"
    settings.BUILD_ARGS = {"EXTRA": "a-secret-word"}
    lines = []
    made = ensure(
        context(f"FROM {BASE}\nRUN cat $CURL_CA_BUNDLE; echo; echo index $PIP_INDEX_URL; echo extra $EXTRA\n"), lines
    )
    assert "a bundle" in lines
    assert "index ***" in lines
    assert "extra ***" in lines
    build = Build.objects.get()
    image = docker_client.images.get(made.image)
    for text in ("\n".join(lines), build.log, str(image.attrs["Config"]["Env"])):
        assert "hunter22" not in text
        assert "a-secret-word" not in text
    assert not any(each.startswith(("PIP_INDEX_URL", "CURL_CA_BUNDLE")) for each in image.attrs["Config"]["Env"])


def test_a_secret_in_a_failing_step_is_not_told(settings):
    settings.BUILD_ARGS = {"EXTRA": "a-secret-word"}
    with pytest.raises(Problem) as failed:
        ensure(context(f"FROM {BASE}\nRUN echo error $EXTRA; exit 1 # a-secret-word\n"))
    assert "a-secret-word" not in str(failed.value.as_json())
    assert failed.value.evidence == "error ***"


def test_packages_on_top_of_a_dockerfile(docker_client):
    made = ensure(context(f"FROM {BASE}\nRUN echo hello > /hello\n"), requirements="six==1.17.0")
    out = docker_client.containers.run(
        made.image,
        [str(made.python), "-c", "import six; print(six.__version__, open('/hello').read())"],
        volumes={str(made.path): {"bind": str(made.path), "mode": "ro"}},
        remove=True,
    )
    assert out.decode().split() == ["1.17.0", "hello"]


def test_a_build_that_prints_without_end_is_cut(monkeypatch):
    told = []
    monkeypatch.setattr(imagebuild, "LINES_TOLD", 10)
    teller = imagebuild.Teller(told.append, hidden=[])
    for number in range(imagebuild.LINES_KEPT + 50):
        teller.take({"stream": f"line {number}\r\n"})
    teller.take({"stream": "x" * 50_000})
    assert len(told) == 11
    assert len(teller.lines) <= imagebuild.LINES_KEPT
    assert len(teller._rest) <= imagebuild.LONGEST_LINE


def test_two_builders_at_once_build_one_image():
    tree = context(f"FROM {BASE}\nRUN echo once\n")
    found = []

    def build():
        from django.db import connection

        try:
            found.append(ensure(tree))
        finally:
            connection.close()

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


def test_an_engine_that_goes_away_is_the_systems_fault(settings, monkeypatch):
    def gone(*_args, **_more):
        raise docker.errors.DockerException("the engine went away")

    monkeypatch.setattr(imagebuild.engine.Api, "build", gone)
    with pytest.raises(Problem) as failed:
        ensure(context(f"FROM {BASE}\n"))
    assert failed.value.code == "driver-unavailable"
