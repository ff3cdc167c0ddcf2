"""What a new user meets: first start, later start, Ctrl-C, and the small commands."""

import http.client
import http.cookiejar
import re
import shlex
import signal
import ssl
import subprocess
import urllib.parse
import urllib.request

import pytest

from bench.clients import until
from bench.product import Product
from tests.product.conftest import cgroups_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def first(folder):
    """The first start, with the demo. The tests below run in the order they are written."""
    made = Product(folder / "d")
    try:
        made.up()
        made.banner = made.said()
        yield made
    finally:
        made.close()


def printed_curl(text):
    command = re.search(r"curl .*?/score$", text, re.MULTILINE | re.DOTALL).group().replace("\\\n", " ")
    return [*shlex.split(command), "--silent", "--show-error", "--fail"]


def sign_in(product, password):
    context = ssl.create_default_context(cafile=str(product.home / "ca.pem"))
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(jar)
    )
    base = f"https://localhost:{product.tls}"
    page = opener.open(f"{base}/accounts/login/", timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page).group(1)
    form = urllib.parse.urlencode({"login": "admin", "password": password, "csrfmiddlewaretoken": token}).encode()
    request = urllib.request.Request(f"{base}/accounts/login/", form, {"Referer": f"{base}/accounts/login/"})
    try:
        opener.open(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != http.client.NOT_FOUND:  # the page after signing in may be missing, the session is not
            raise
    return {cookie.name for cookie in jar}


def password_of(text):
    return re.search(r"with the password (\S+)", text).group(1)


def test_the_banner_says_what_is_needed(first):
    assert f"Portway is ready: https://localhost:{first.tls}" in first.banner
    assert str(first.home / "ca.pem") in first.banner


def test_the_printed_curl_answers(first):
    done = subprocess.run(printed_curl(first.banner), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\[[\d., -]+\]", done.stdout.strip())


def test_health_lists_every_part(first):
    until(lambda: not (down_parts(first) - {"mlflow"}), 30, "every part up")
    assert set(first.health()["parts"]) == {"web", "database", "broker", "worker", "controller", "gateway", "mlflow"}


def down_parts(product):
    return {name for name, part in product.health()["parts"].items() if not part["up"]}


def test_admin_signs_in_with_the_printed_password(first):
    assert "portway_session" in sign_in(first, password_of(first.banner))
    assert "portway_session" not in sign_in(first, "not the password")


def test_status_and_logs_and_doctor_and_sdk_env(first):
    status = first.command("status")
    assert status.returncode == (1 if down_parts(first) else 0)
    assert "gateway      up" in status.stdout
    assert first.command("logs", "controller", "-n", "5").returncode == 0
    doctor = first.command("doctor")
    assert "ok   database" in doctor.stdout
    assert "container engine" in doctor.stdout
    until(lambda: "ok   batch host" in first.command("doctor").stdout, 30, "the sign of life of this host")
    exports = first.command("sdk-env")
    assert exports.returncode == 0
    assert f"https://localhost:{first.tls}/msi/token" in exports.stdout


def test_the_demo_ends_with_two_deployments(first):
    until(lambda: traffic_of(first) == {"blue": 90, "green": 10}, 120, "the demo's traffic")


def traffic_of(product):
    return product.rest("GET", "onlineEndpoints/diabetes")["properties"]["traffic"]


def test_ctrl_c_leaves_nothing(first):
    assert cgroups_of(first.home), "the replicas run in control groups, or this test proves nothing"
    assert first.stop(signal.SIGINT) == 0
    assert first.pids() == []
    assert cgroups_of(first.home) == []


def test_stopped_commands_say_so(first, folder):
    assert first.command("status").returncode == 1
    assert first.command("down").returncode == 0
    assert first.command("logs", "nothing").returncode == 2
    assert first.command("nonsense").returncode == 2
    empty = Product(folder / "empty")
    assert (empty.command("logs").returncode, empty.command("sdk-env").returncode) == (1, 1)


def test_a_later_start_keeps_the_password_and_the_demo(first):
    password = password_of(first.banner)
    for _ in range(2):  # stopped before its replicas were up, it must come back all the same
        first.up()
        assert "with the password" not in first.said()
        if _ == 0:
            first.stop()
    assert "portway_session" in sign_in(first, password)
    curl = printed_curl(first.said())
    until(
        lambda: subprocess.run(curl, capture_output=True, timeout=30, check=False).returncode == 0,
        60,
        "the demo's prediction",
    )
    assert traffic_of(first) == {"blue": 90, "green": 10}


def test_down_stops_it_from_another_terminal(first):
    done = first.command("down", timeout_s=90)
    assert (done.returncode, done.stdout.strip()) == (0, "Portway has stopped.")
    assert first.process.wait(10) == 0
    assert first.pids() == []
