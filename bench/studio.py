"""How long the studio's pages take in a large workspace, through the gateway, and how large they are."""

from __future__ import annotations

import gzip
import http.client
import re
import ssl
import statistics
import subprocess
import time
from urllib.parse import urlencode

from bench.product import PYTHON, ROOT, Failed, Product

PASSWORD = "bench only, not a secret"
PAGES = {
    "home": "/w/load/",
    "endpoints": "/w/load/endpoints",
    "endpoints, last page": "/w/load/endpoints?page=20",
    "endpoints, filtered": "/w/load/endpoints?q=fraud",
    "endpoint": "/w/load/endpoints/seed-churn-00000",
    "traffic": "/w/load/endpoints/seed-churn-00000/traffic",
    "test": "/w/load/endpoints/seed-churn-00000/test",
    "models": "/w/load/models",
    "models, filtered": "/w/load/models?q=risk",
    "models, by date": "/w/load/models?sort=-newest",
    "model": "/w/load/models/churn-00000",
    "environments": "/w/load/environments",
    "operations": "/w/load/operations",
    "deploy": "/w/load/create/deployment",
    "search": "/w/load/find?q=fraud-0",
    "models to pick": "/w/load/pick/models?q=fraud",
}
ROUNDS = 20


class Browser:
    """A signed-in session over one connection that stays open."""

    def __init__(self, product: Product) -> None:
        trust = ssl.create_default_context(cafile=str(product.home / "ca.pem"))
        self.link = http.client.HTTPSConnection("localhost", product.tls, timeout=30, context=trust)
        self.cookies: dict[str, str] = {}
        _status, page = self.call("GET", "/accounts/login/")
        match = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        if match is None:
            raise Failed("the sign-in page has no form")
        form = {"login": "admin", "password": PASSWORD, "csrfmiddlewaretoken": match[1].decode()}
        status, _page = self.call("POST", "/accounts/login/", urlencode(form))
        if status != http.client.FOUND:
            raise Failed(f"signing in answered {status}")

    def call(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"https://localhost{path}"}
            headers["Origin"] = f"https://localhost:{self.link.port}"
        self.link.request(method, path, body, headers)
        answer = self.link.getresponse()
        page = answer.read()
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _sign, value = line.split(";", 1)[0].partition("=")
            self.cookies[name] = value
        return answer.status, page


def seed(product: Product) -> str:
    environment = {**product.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    done = subprocess.run(
        [PYTHON, "manage.py", "seed"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


def measured(product: Product) -> dict[str, tuple[float, float, int]]:
    """Of each page: median and 95th percentile in milliseconds, and its size in bytes as gzip sends it."""
    browser = Browser(product)
    found = {}
    for name, path in PAGES.items():
        times, page = [], b""
        for _ in range(ROUNDS):
            started = time.perf_counter()
            status, page = browser.call("GET", path)
            times.append((time.perf_counter() - started) * 1000)
            if status != http.client.OK:
                raise Failed(f"{path} answered {status}")
        found[name] = (statistics.median(times), statistics.quantiles(times, n=20)[-1], len(gzip.compress(page)))
    return found
