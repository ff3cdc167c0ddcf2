"""The gate: every page, in both themes, at three widths: axe finds nothing, policy and console are quiet."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.urls import URLPattern, get_resolver

from apps.api import urls as api
from tests.browser import CHROMIUM, clean
from tests.e2e import gate

AXE = (settings.BASE_DIR / "tests" / "vendor" / "axe" / "axe.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]


def names(patterns, prefix=""):
    """The names of the studio's URLs: the API's are no pages, the console has a gate of its own."""
    for each in patterns:
        if isinstance(each, URLPattern):
            if each.name:
                yield prefix + each.name
        elif each.urlconf_name is not api and each.namespace != "console":
            yield from names(each.url_patterns, f"{each.namespace}:" if each.namespace else prefix)


def test_no_page_is_missing_from_the_gate():
    known = {*gate.PAGES, *gate.FOR_NOBODY, *gate.NO_PAGE, *gate.IN_BETWEEN}
    found = set(names(get_resolver().url_patterns))
    assert found - known == set(), "a new page belongs into tests/e2e/gate.py"
    assert {each for each in known if " " not in each} - found == set(), "a page is gone"


def findings(page):
    """What axe has to say, short enough to read in a failed test."""
    page.evaluate(AXE)
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})", RULES
    )
    return [
        f"{each['id']}: {node['target']} {node['html'][:160]}" for each in found["violations"] for node in each["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_every_page(theme, width, open_page, site):
    from apps.core.models import Operation

    wrong = []
    operation = Operation.objects.first().pk
    for who, pages in (("olga", gate.PAGES), ("", gate.FOR_NOBODY)):
        page = open_page(who, theme=theme, width=width)
        for name, address in pages.items():
            page.complaints.clear()
            answer = page.goto(site + address.format(operation=operation))
            expected = gate.EXPECTED_STATUS.get(name, 200)
            if answer.status != expected:
                wrong.append(f"{name}: status {answer.status}")
                continue
            page.wait_for_load_state("load")
            wrong += [f"{name}: {each}" for each in page.evaluate("window.violations")]
            wrong += [f"{name}: {each}" for each in page.complaints if expected == 200]
            wrong += [f"{name}: {each}" for each in findings(page)]  # last: axe sets styles of its own
            spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if spare > 0:
                wrong.append(f"{name}: {spare} px wider than the window")
    assert wrong == []


def test_a_page_that_needs_a_look_is_found(open_page, site):
    """The gate itself: an unnamed button and a blocked style must not pass."""
    page = open_page()
    page.goto(site + gate.PAGES["studio:endpoints"])
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert any(each.startswith("button-name") for each in findings(page))
    page.evaluate("document.querySelector('main').setAttribute('style', 'color: red')")
    page.wait_for_function("window.violations.length > 0")
    with pytest.raises(AssertionError):
        clean(page)
