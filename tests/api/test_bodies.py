"""Who may send large bodies: counted before Django reads them, on the ASGI application as the web server runs it."""

import asyncio
import json
from urllib.parse import urlencode

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import Client

from apps.accounts.domain import create_token
from apps.api.bodies import BoundedBodies
from apps.gateway.envoy.routes import BLOB_BODY_LIMIT, SITE_BODY_LIMIT
from apps.registry import blobs
from portal.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
PIECE = b"x" * 2**20
UPLOADS = "/api/v1/workspaces/lab/uploads"
FORM = "multipart/form-data; boundary=edge"


async def _send(app, path, pieces, headers, query):
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "server": ("testserver", 80),
        "headers": [(name.encode(), value.encode()) for name, value in {"host": "testserver", **headers}.items()],
    }  # fmt: skip
    talk = ApplicationCommunicator(app, scope)
    for piece in pieces:
        await talk.send_input({"type": "http.request", "body": piece, "more_body": True})
    await talk.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await talk.receive_output(timeout=20)
    body, more = b"", True
    while more:
        part = await talk.receive_output(timeout=20)
        body, more = body + part.get("body", b""), part.get("more_body", False)
    await talk.send_input({"type": "http.disconnect"})
    await talk.wait(timeout=20)
    return start["status"], body


def send(path, pieces, *, app=application, query="", length=None, **headers):
    """(status, body) of the answer."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers |= {} if length is None else {"content-length": str(length)}
    return asyncio.run(_send(app, path, pieces, headers, query))


class Reader:
    """An application that reads the whole body and says how long it was."""

    def __init__(self):
        self.read = []  # by every request

    async def __call__(self, scope, receive, send):
        read, more = 0, True
        self.read.append(0)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            read, more = read + len(message["body"]), message["more_body"]
            self.read[-1] = read
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(read).encode()})


@pytest.fixture
def reader():
    return BoundedBodies(Reader())


def token_of(person):
    return f"Bearer {create_token(user=person, name='test')[1]}"


def test_a_body_without_a_length_ends_at_the_limit(reader):
    status, body = send("/accounts/login/", [PIECE] * 40, app=reader)
    assert (status, json.loads(body)["error"]["code"]) == (413, "BadArgument")
    assert reader.app.read == [SITE_BODY_LIMIT]


def test_a_body_longer_than_it_said_ends_too(reader):
    assert send("/accounts/login/", [PIECE] * 40, app=reader, length=100)[0] == 413


def test_a_length_above_the_limit_is_refused_unread(reader):
    assert send("/w/lab/endpoints", [PIECE] * 3, app=reader, length=SITE_BODY_LIMIT + 1)[0] == 413
    assert reader.app.read == []


def test_what_is_small_enough_passes(reader):
    assert send("/accounts/login/", [PIECE] * 10, app=reader) == (200, str(SITE_BODY_LIMIT).encode())


@pytest.mark.parametrize("length", [None, 2**32])
def test_an_upload_of_nobody_is_not_read(reader, length, workspace):
    assert send(UPLOADS, [PIECE] * 20, app=reader, length=length, content_type=FORM) == (200, b"0")
    status, body = send(UPLOADS, [PIECE] * 20, length=length, content_type=FORM)
    assert (status, json.loads(body)["error"]["code"]) == (401, "Unauthorized")


def test_an_upload_with_a_bad_token_is_not_read(reader, workspace):
    bad = {"authorization": "Bearer pw_nonsense", "content_type": FORM}
    assert send(UPLOADS, [PIECE] * 20, app=reader, **bad)[1] == b"0"
    assert send(UPLOADS, [PIECE] * 20, **bad)[0] == 401


def test_an_upload_of_somebody_is_read_whole(reader, people, workspace):
    given = {"authorization": token_of(people["dan"]), "content_type": FORM}
    assert send(UPLOADS, [PIECE] * 20, app=reader, **given)[1] == str(20 * len(PIECE)).encode()


def test_a_form_of_the_studio_counts_for_who_has_signed_in(reader, people, workspace):
    page = "/w/lab/create/model"
    client = Client()
    client.force_login(people["dan"])
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    assert send(page, [PIECE] * 20, app=reader, cookie=cookie, content_type=FORM)[1] == str(20 * len(PIECE)).encode()
    stale = f"{settings.SESSION_COOKIE_NAME}=zzzz"
    assert send(page, [PIECE] * 20, app=reader, cookie=stale, content_type=FORM)[1] == b"0"
    csrf = f"{settings.CSRF_COOKIE_NAME}={'a' * 32}"
    assert send(page, [PIECE] * 20, cookie=csrf, content_type=FORM)[0] in (302, 403)


def test_a_blob_without_a_signature_is_not_read(reader, people, workspace):
    from apps.api import sas

    container = blobs.new_container(workspace)
    path = f"/storage.blob.portway.local/{container.name}/model.bin"
    large = SITE_BODY_LIMIT + len(PIECE)
    assert send(path, [PIECE] * 11, app=reader, length=large)[1] == b"0"
    good = sas.token(container, people["dan"])
    assert send(path, [PIECE] * 11, app=reader, length=large, query=good)[1] == str(large).encode()
    reads = urlencode({"sig": "0" * 64, "sp": "racwl"})
    assert send(path, [PIECE] * 11, app=reader, length=large, query=reads)[1] == b"0"
    assert send(path, [PIECE], app=reader, length=BLOB_BODY_LIMIT + 1, query=good)[0] == 413


@pytest.mark.parametrize("path", ["/storage.blob.portway.local/none/x", UPLOADS, "/w/lab/create/model"])
@pytest.mark.parametrize(
    "headers", [{"cookie": "\x01=;;="}, {"authorization": "Bearer"}, {"authorization": "Bearer a b"}]
)
def test_nonsense_is_nobody(reader, path, headers, workspace):
    assert send(path, [PIECE] * 11, app=reader, length=11 * len(PIECE), query="skoid=%00&se=x", **headers)[1] == b"0"
