"""Environments by the real uv. What needs the package index uses small packages."""

import os
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from apps.builds import domain, uv
from apps.builds.domain import EnvironmentSpec
from apps.builds.explain import explain, hints
from apps.builds.models import Build, Resolution
from apps.core.errors import Problem

QUIET = {"log": lambda _line: None, "check": lambda: None}
pytestmark = pytest.mark.django_db(transaction=True)


def ensure(lines=None, **spec):
    return domain.ensure(EnvironmentSpec(**spec), log=(lines if lines is not None else []).append, check=lambda: None)


def test_an_environment_is_built_once_and_found_again():
    lines = []
    first = ensure(lines, requirements="six==1.17.0\n# a comment\n")
    done = subprocess.run(
        [first.python, "-c", "import six; print(six.__version__)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1.17.0"
    assert any("six" in line for line in lines)
    again = []
    second = ensure(again, conda_file="dependencies: [python=3.11, {pip: [six==1.17.0]}]")
    assert (second.key, second.path) == (first.key, first.path)
    assert not any("resolving" in line for line in again)
    assert Build.objects.get().state == "succeeded"
    assert "six==1.17.0" in Build.objects.get().lock


def test_two_spellings_with_the_same_lock_share_one_build():
    first = ensure(requirements="six==1.17.0")
    second = ensure(requirements="six>=1.17,<1.18")
    assert first.path == second.path
    assert (Build.objects.count(), Resolution.objects.count()) == (1, 2)


def test_two_builders_at_once_build_one_environment():
    results = []

    def build():
        from django.db import connection

        try:
            results.append(ensure(requirements="iniconfig==2.3.0").path)
        finally:
            connection.close()

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1


def test_a_half_built_environment_is_built_again():
    first = ensure(requirements="six==1.17.0")
    (first.path / domain.MARK).unlink()
    for path in first.path.glob("lib/python*/site-packages/six.py"):
        path.unlink()
    second = ensure(requirements="six==1.17.0")
    subprocess.run([second.python, "-c", "import six"], check=True)


def test_an_unknown_package_is_the_users_fault_and_named():
    with pytest.raises(Problem) as failed:
        ensure(requirements="portway-no-such-package-zz==1.0")
    assert failed.value.code == "environment-failed"
    assert "portway-no-such-package-zz" in failed.value.message
    assert not Build.objects.filter(state="succeeded").exists()


def test_an_index_that_does_not_answer_is_the_systems_fault(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "2")
    monkeypatch.setattr(domain.settings, "UV_CACHE_DIR", str(Path(domain.settings.HOME.uploads) / "empty-cache"))
    with pytest.raises(Problem) as failed:
        ensure(requirements="six==1.16.0")
    assert failed.value.code == "build-unavailable"


def test_cancelling_ends_uv():
    class Stop(Exception):  # noqa: N818
        pass

    def check():
        raise Stop

    with pytest.raises(Stop):
        domain.ensure(EnvironmentSpec(requirements="scipy"), log=lambda _: None, check=check)


@pytest.mark.parametrize(
    "text", ["-r other.txt", "--index-url http://127.0.0.1/ x", "/etc/passwd", "file:///x", "-e ."]
)
def test_options_and_local_paths_in_requirements_are_refused(text):
    with pytest.raises(Problem, match="not supported"):
        ensure(requirements=text)


def test_a_python_that_is_not_at_hand_is_said_plainly():
    interpreter, remark = uv.choose("3.99")
    assert interpreter.version
    assert remark == f"Python 3.99 is asked for but not on this machine: Python {interpreter.version} is used instead."
    assert uv.choose("")[1] == ""


def test_uv_gets_no_secret_of_ours(monkeypatch, tmp_path):
    fake = tmp_path / "uv"
    fake.write_text("#!/bin/sh\nenv >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(uv, "binary", lambda: fake)
    monkeypatch.setenv("PORTWAY_SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hush@h/d")
    with pytest.raises(uv.UvError) as failed:
        uv.run(["x"], cache="", timeout_s=5, log=lambda _: None, check=lambda: None)
    assert "PATH=" in failed.value.output
    assert "hush" not in failed.value.output
    assert os.environ["PORTWAY_SECRET_KEY"] == "hush"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "Because foo was not found in the package registry and you require foo, we can conclude",
            "there is no package foo",
        ),
        ("Because there is no version of foo==9.9 and you require foo==9.9, we can", "there is no version foo==9.9"),
        ("Because foo==1.0 has no usable wheels and you require foo==1.0", "foo==1.0 has no ready-made wheel"),
        (
            "Because foo==1.0 depends on bar>=2 and you require foo==1.0, we can",
            "contradict each other: foo==1.0 needs bar>=2",
        ),
        (
            "error: Couldn't parse requirement in `-` at position 0\n  cause: Expected one of `@`, found `b`",
            "is not understood",
        ),
        ("error: No space left on device (os error 28)", "the disk is full"),
        ("something new", "could not be installed"),
    ],
)
def test_what_uv_says_in_one_sentence(output, reason):
    assert reason in explain(output).reason


def test_an_old_stack_without_a_numpy_pin_gets_a_hint():
    assert "numpy<2" in hints(["scikit-learn==1.2.2"])[0]
    assert hints(["scikit-learn==1.2.2", "numpy<2"]) == []
    assert hints(["scikit-learn==1.7.0"]) == []


def make_wheel(folder, name, **files):
    """A wheel that only brings `files` to the top of site-packages; `__` in a name stands for a dot."""
    info = f"{name}-1.0.dist-info"
    contents = {key.replace("__", "."): text for key, text in files.items()} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for each, text in contents.items():
            wheel.writestr(each, text)


def test_nothing_of_an_environment_runs_with_our_rights_while_it_is_made(tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    make_wheel(tmp_path, "startsfirst", startsfirst__pth=f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    made = ensure(requirements="startsfirst==1.0")
    assert made.overlay.is_dir()
    assert not mark.exists()
    subprocess.run([made.python, "-c", ""], check=True)
    assert mark.exists()  # the package is as nasty as it looks


def test_uv_reads_no_configuration_from_where_we_happen_to_run(tmp_path, monkeypatch):
    (tmp_path / "uv.toml").write_text("this is no configuration")
    monkeypatch.chdir(tmp_path)
    assert uv.run(["pip", "list", "--python", str(uv.interpreters()[0].path)], cache="", timeout_s=30, **QUIET)


def test_a_python_too_old_for_the_scoring_server_is_replaced_with_a_remark(monkeypatch):
    found = tuple(uv.Interpreter(Path(f"/x/{each}"), f"{each}.1") for each in ("3.11", "3.8", "3.10"))
    monkeypatch.setattr(uv, "interpreters", lambda: found)
    chosen, remark = uv.choose("3.8")
    assert chosen.minor == "3.10"
    assert remark == "Python 3.8 is asked for but too old for the scoring server: Python 3.10.1 is used instead."


def test_an_overlay_that_cannot_be_made_is_said_in_the_catalogues_words(monkeypatch):
    def refuse(*_):
        raise domain.OverlayError("no packages")

    monkeypatch.setattr(domain, "ensure_overlay", refuse)
    with pytest.raises(Problem, match="no packages") as caught:
        ensure(requirements="")
    assert caught.value.code == "build-unavailable"
