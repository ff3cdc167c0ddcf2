"""A batch job in a real browser: create it, watch it, look at the red cell, retry, read the outputs."""

from __future__ import annotations

import pytest

from tests.batch.world import BatchWorld
from tests.browser import CHROMIUM, clean
from tests.world import World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
ONCE = """
import os
def init(): pass
def run(files):
    name = os.path.basename(files[0])
    mark = os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "tried")
    if name == "f000002.txt" and not os.path.exists(mark):
        open(mark, "w").close()
        raise ValueError("bad pixel")
    return [name]
"""


@pytest.fixture
def site(settings, live_server, monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs a loop in this thread
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = False
    settings.DEFAULT_DRIVER = "process"
    return live_server


@pytest.fixture
def batch(site):
    made = BatchWorld(World())
    yield made
    made.close()


def test_create_watch_retry_and_read(open_page, site, batch):
    from apps.batch.models import Job

    batch.deployment(ONCE)
    address = batch.files(5)
    batch.agent()
    base = f"{site.url}/w/{batch.workspace.name}"
    page = open_page(batch.actor.username)
    page.goto(f"{base}/create/job?endpoint=forests")
    page.get_by_role("combobox", name="Address of the data").fill(address)
    page.get_by_label("Display name").fill("Tiles")
    clean(page)
    page.get_by_role("button", name="Create job").click()
    page.wait_for_url("**/jobs/*")
    job = Job.objects.get()
    batch.completed(job)
    assert job.failed == 1

    page.reload()
    page.get_by_role("button", name="Retry only the failed").wait_for()
    map_ = page.get_by_role("group", name="Map of mini-batches")
    page.locator("[data-count=f]", has_text="1").wait_for()
    map_.focus()
    page.keyboard.press("f")
    page.keyboard.press("Enter")
    panel = page.locator("#mini-batch")
    panel.get_by_text("bad pixel").first.wait_for()
    assert panel.get_by_text("f000002.txt").is_visible()
    clean(page)

    page.get_by_role("button", name="Retry only the failed").click()
    page.wait_for_load_state("load")
    batch.completed(job)
    assert (job.done, job.failed) == (5, 0)
    page.goto(f"{base}/jobs/{job.name}/outputs")
    page.get_by_role("link", name="predictions.csv").click()
    page.get_by_role("cell", name="f000004.txt").wait_for()
    clean(page)
