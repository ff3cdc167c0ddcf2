"""Screenshots of every page in both themes: `python -m tests.shots [folder]`, by default docs/screenshots.

Needs Chromium. Starts the product in a home of its own, with its demo, and sends it some traffic first.
"""

import http.client
import json
import ssl
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from bench.clients import until
from bench.product import ROOT, Product
from tests import shots_batch
from tests.browser import ARGUMENTS
from tests.e2e import gate

PASSWORD = "screenshots only"
REQUESTS, WATCHED, WAIT_S, ATTEMPTS = 1500, 300, 25, 5
CONDA = "name: model\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - pip: [scikit-learn]\n"
CONSOLE = {
    "console": "/console/",
    "console-users": "/console/accounts/user/",
    "console-workspaces": "/console/accounts/workspace/",
    "console-memberships": "/console/accounts/membership/",
    "console-tokens": "/console/accounts/personaltoken/",
    "console-endpoints": "/console/endpoints/onlineendpoint/",
    "console-deployments": "/console/endpoints/onlinedeployment/",
    "console-instances": "/console/compute/replica/",
    "console-operations": "/console/core/operation/",
    "console-batch-endpoints": "/console/batch/batchendpoint/",
    "console-batch-deployments": "/console/batch/batchdeployment/",
    "console-jobs": "/console/batch/job/",
    "console-schedules": "/console/batch/schedule/",
    "console-clusters": "/console/batch/cluster/",
    "console-nodes": "/console/batch/node/",
    "console-hosts": "/console/batch/host/",
    "console-models": "/console/registry/modelversion/",
    "console-data": "/console/registry/dataversion/",
    "console-datastores": "/console/registry/datastore/",
    "console-components": "/console/registry/componentversion/",
    "console-environments": "/console/builds/build/",
    "console-caches": "/console/caches/",
    "console-health": "/console/health/",
    "console-limits": "/console/limits/",
    "console-targets": "/console/compute/computetarget/",
    "console-instance-types": "/console/compute/instancetype/",
    "console-audit": "/console/core/auditrecord/",
}
OF_THE_DEMO = {
    "/w/lab": "/w/default",
    "flowers": "diabetes",
    "iris:": "diabetes-blue:",
    "models/iris": "models/diabetes-blue",
    "rivers_flow": "rivers",
    "deployments/flow": "deployments/blue",
    "components/step": "components/sort",
}


def pages(operation):
    """Name and address of every page of the gate, as the demo has it."""
    for name, address in gate.PAGES.items():
        if name in gate.EXPECTED_STATUS:
            continue
        here = address
        for word, own in OF_THE_DEMO.items():
            here = here.replace(word, own)
        yield name.removeprefix("studio:").replace("_", "-"), here.format(operation=operation)
    yield from shots_batch.PAGES.items()
    yield from CONSOLE.items()
    yield "api", "/api/v1/docs"


def traffic(product, requests=REQUESTS):
    """A minute's worth of predictions, some of them wrong, so that charts and logs have something to show."""
    demo = json.loads((product.home / "demo.json").read_text())
    trust = ssl.create_default_context(cafile=str(product.home / "ca.pem"))
    link = http.client.HTTPSConnection("localhost", product.tls, timeout=30, context=trust)
    headers = {"Authorization": f"Bearer {demo['key']}", "Content-Type": "application/json"}
    for number in range(requests):
        body = json.dumps(demo["body"]) if number % 50 else '{"wrong": 1}'
        link.request("POST", "/e/diabetes/score", body, headers)
        link.getresponse().read()
        time.sleep(0.02)
    link.close()


def visit(page, address):
    """The answer of a page; asked again when other work on this machine makes or drops a network interface."""
    for _ in range(ATTEMPTS - 1):
        try:
            return page.goto(address)
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in str(error):
                raise
            page.wait_for_timeout(1000)
    return page.goto(address)


def sign_in(page, base):
    visit(page, f"{base}/")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", PASSWORD)
    page.click("form button.wide")
    page.wait_for_url("**/w/default/")


def shoot(browser, product, theme, folder, operation):
    base = f"https://localhost:{product.tls}"
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": "theme", "value": theme, "url": base}])
    page = context.new_page()
    for name, address in gate.FOR_NOBODY.items():
        visit(page, base + address)
        page.screenshot(path=folder / f"{name.removeprefix('account_')}-{theme}.png")
    sign_in(page, base)
    for name, address in pages(operation):
        answer = visit(page, base + address)
        if answer is None or not answer.ok:
            raise SystemExit(f"{address} answered {answer and answer.status}")
        page.wait_for_timeout(500)
        if name == "endpoint-test":
            page.select_option("#against", "green")
            page.select_option("#deployment", "blue")
            page.get_by_role("button", name="Send", exact=True).click()
            page.get_by_text("Answered by").first.wait_for()
            page.evaluate("scrollTo(0, 0)")
        if name == "endpoint-metrics":
            visit(page, f"{base}{address}?range=15m")
            page.wait_for_timeout(1500)
        if name == "endpoint-traffic":  # its figures are of this moment
            with ThreadPoolExecutor(1) as pool:
                sent = pool.submit(traffic, product, WATCHED)
                page.get_by_text("requests/s").first.wait_for()
                page.wait_for_timeout(5000)
                page.screenshot(path=folder / f"{name}-{theme}.png")
                sent.result()
            continue
        page.screenshot(path=folder / f"{name}-{theme}.png")
    context.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pw-shots-", dir="/tmp") as home:
        product = Product(Path(home) / "h", PORTWAY_ADMIN_PASSWORD=PASSWORD)
        product.up()
        try:
            until((product.home / "demo.json").exists, 150, "the demo")
            product.register("environments", "sklearn", "1", condaFile=CONDA)
            shots_batch.make(product)
            traffic(product)
            time.sleep(WAIT_S)  # until the last of it has been counted
            operation = product.rest("GET", "operations")["value"][0]["name"]
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
                for theme in ("light", "dark"):
                    shoot(browser, product, theme, folder, operation)
                browser.close()
        finally:
            product.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
