"""What an engine's trouble comes to, without an engine."""

import contextlib
import time

import pytest

from apps.builds import engine, imagebuild, images
from apps.builds.engine import Ended, NotStarted, TookTooLong
from apps.builds.models import ImageFacts
from apps.builds.packaging import image
from apps.core.errors import Problem
from apps.registry.models import EnvironmentVersion


@pytest.mark.parametrize(
    "end",
    [TookTooLong(), NotStarted("failed to create endpoint"), NotStarted("strange"), Ended(137, "", (), False)],
)
@pytest.mark.django_db
def test_trouble_says_nothing_of_an_image(monkeypatch, end):
    def run(*_, **__):
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(engine, "run", run)
    with pytest.raises(Problem) as failed:
        images.facts(None, "sha256:1", check=lambda: None)
    assert failed.value.code == "driver-unavailable"
    assert not ImageFacts.objects.exists()


@pytest.mark.parametrize("text", ["exec: python3: no such file or directory", "exec format error"])
@pytest.mark.django_db
def test_a_program_that_cannot_start_is_none(monkeypatch, text):
    def run(*_, **__):
        raise NotStarted(text)

    monkeypatch.setattr(engine, "run", run)
    assert images.facts(None, "sha256:1", check=lambda: None).python == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("write /x: no space left on device", "disk-full"),
        ("toomanyrequests: You have reached your pull rate limit", "image-unavailable"),
        ("received unexpected HTTP status: 503 Service Unavailable", "image-unavailable"),
        ("something nobody knows", "image-unavailable"),
        ("manifest for a:500 not found: manifest unknown", "image-missing"),
        ("pull access denied for a", "image-missing"),
    ],
)
def test_why_an_image_was_not_pulled(text, code):
    assert images._not_pulled("a:500", text).code == code


def test_sweep_trusts_no_label_of_an_image(monkeypatch, settings):
    here = settings.HOME.installation
    rows = [
        {"Id": "replica", "Names": [f"/portway-{here}-blue"], "Labels": {engine.UNTIL: "1"}},
        {"Id": "odd", "Names": [f"/portway-build-{here}-1"], "Labels": {engine.UNTIL: "x"}},
        {"Id": "over", "Names": [f"/portway-probe-{here}-1"], "Labels": {engine.UNTIL: "1"}},
        {"Id": "new", "Names": [f"/portway-build-{here}-2"], "Labels": {engine.UNTIL: str(int(time.time()) + 60)}},
    ]

    class Fake:
        def containers(self, **_):
            return rows

    removed = []
    settings.DOCKER_URL = "unix:///x"
    monkeypatch.setattr(engine, "connected", lambda: contextlib.nullcontext(Fake()))
    monkeypatch.setattr(engine, "remove", lambda _api, each: removed.append(each))
    assert engine.sweep() == 2
    assert removed == ["odd", "over"]


class Package:
    copies = True

    def __init__(self, context=""):
        self.environment = EnvironmentVersion(build_context_id=context or None)
        self.image = type("Build", (), {"image": "portway/x:1", "image_id": "sha256:1", "state": "succeeded"})()


def test_an_image_is_sent_only_while_its_name_means_it(monkeypatch):
    known = {"portway/x:1": "sha256:1", "sha256:1": "sha256:1"}
    monkeypatch.setattr(engine, "connected", lambda *_: contextlib.nullcontext(None))
    monkeypatch.setattr(images, "identify", lambda _api, name: known.get(name, ""))
    image.check_saved(Package())
    known["portway/x:1"] = "sha256:2"
    for send in (lambda: image.check_saved(Package()), lambda: next(image.saved(Package().image))):
        with pytest.raises(Problem) as failed:
            send()
        assert failed.value.code == "image-unavailable"


def test_an_image_that_may_hold_build_secrets_is_not_sent(monkeypatch):
    monkeypatch.setattr(imagebuild, "secrets", lambda: ["hunter22"])
    monkeypatch.setattr(engine, "connected", lambda *_: contextlib.nullcontext(None))
    monkeypatch.setattr(images, "identify", lambda *_: "sha256:1")
    image.check_saved(Package())
    with pytest.raises(Problem, match="history may hold"):
        image.check_saved(Package("0" * 64))
