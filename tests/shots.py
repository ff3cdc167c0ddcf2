"""Screenshots of every page in both themes: `python -m tests.shots [folder]`, by default docs/screenshots.

Needs Chromium. Starts the product in a home of its own, with its demo.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from bench.product import ROOT, Product

PASSWORD = "screenshots only"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PAGES = {
    "endpoints": "/w/default/endpoints",
    "create-endpoint": "/w/default/create/endpoint",
    "endpoint": "/w/default/endpoints/diabetes",
    "traffic": "/w/default/endpoints/diabetes/traffic",
    "test": "/w/default/endpoints/diabetes/test",
    "metrics": "/w/default/endpoints/diabetes/metrics?range=15m",
    "keys": "/w/default/endpoints/diabetes/keys",
    "logs": "/w/default/endpoints/diabetes/logs",
    "activity": "/w/default/endpoints/diabetes/activity",
    "create-deployment": "/w/default/endpoints/diabetes/deploy",
    "deployment": "/w/default/endpoints/diabetes/deployments/blue",
    "models": "/w/default/models",
    "model": "/w/default/models/diabetes-blue",
    "register-model": "/w/default/create/model",
    "environments": "/w/default/environments",
    "create-environment": "/w/default/create/environment",
    "tokens": "/account/tokens",
    "api": "/api/v1/docs",
}


def sign_in(page, base):
    page.goto(f"{base}/")
    page.fill("input[name=login]", "admin")
    page.fill("input[name=password]", PASSWORD)
    page.click("form button.wide")
    page.wait_for_url("**/endpoints")


def shoot(browser, base, theme, folder):
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": "theme", "value": theme, "url": base}])
    page = context.new_page()
    page.goto(f"{base}/accounts/login/")
    page.screenshot(path=folder / f"sign-in-{theme}.png")
    sign_in(page, base)
    for name, path in PAGES.items():
        answer = page.goto(base + path)
        if answer is None or not answer.ok:
            raise SystemExit(f"{path} answered {answer and answer.status}")
        page.wait_for_timeout(300)
        if name == "test":
            page.click("button:has-text('Send')")
            page.wait_for_selector("text=Answered by")
        page.screenshot(path=folder / f"{name}-{theme}.png")
    page.goto(f"{base}/w/default/endpoints/diabetes/activity")
    page.click("table a >> nth=0")
    page.screenshot(path=folder / f"operation-{theme}.png")
    context.close()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pw-shots-") as home:
        product = Product(Path(home) / "h", PORTWAY_ADMIN_PASSWORD=PASSWORD)
        product.up()
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
                for theme in ("light", "dark"):
                    shoot(browser, f"https://localhost:{product.tls}", theme, folder)
                browser.close()
        finally:
            product.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
