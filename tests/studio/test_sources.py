"""Rules that hold for every template, script and vendored file."""

from __future__ import annotations

import hashlib
import re
import tomllib

import pytest
from django.conf import settings

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
SCRIPTS = sorted((settings.BASE_DIR / "static" / "js").glob("*.js"))
VENDOR = settings.BASE_DIR / "static" / "vendor"
INLINE = re.compile(
    r"""<style|<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=["']js""",
    re.IGNORECASE,
)
TEXT = re.compile(r">\s*([A-Z][a-z]+(?: [a-z]+)+)[^<{]*<")
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(['\"]style",
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_inline(path):
    source = path.read_text()
    assert INLINE.findall(source) == []
    assert "|safe" not in source
    assert "autoescape off" not in source


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_text_can_be_translated(path):
    assert TEXT.findall(path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_build_no_html_from_text(path):
    source = path.read_text()
    assert UNSAFE.findall(source) == []
    assert len(source.splitlines()) <= 140


def test_icons_that_are_used_are_in_the_sprite():
    sprite = (VENDOR / "lucide" / "sprite.svg").read_text()
    for path in TEMPLATES:
        for name in re.findall(r"""{% icon ["']([a-z0-9-]+)["']""", path.read_text()):
            assert f'id="{name}"' in sprite, f"{path.name} uses {name}"


@pytest.mark.parametrize("folder", [VENDOR, settings.BASE_DIR / "tests" / "vendor"], ids=["static", "tests"])
def test_vendored_files_are_what_vendor_toml_says(folder):
    listed = tomllib.loads((folder / "vendor.toml").read_text())
    for name, entry in listed.items():
        assert entry["version"]
        assert entry["licence"]
        assert {each.name for each in (folder / name).iterdir()} == set(entry["sha256"])
        for file, digest in entry["sha256"].items():
            assert hashlib.sha256((folder / name / file).read_bytes()).hexdigest() == digest
    assert {each.name for each in folder.iterdir() if each.is_dir()} == set(listed)
