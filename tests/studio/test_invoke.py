"""The request of the test page, against a TLS server with this installation's own certificate."""

from __future__ import annotations

import http.server
import ssl
import threading

import pytest

from apps.core.errors import Problem
from apps.gateway.certificates import ensure_certificates
from apps.studio import invoke
from tests.factories import make_model


class Gateway(http.server.BaseHTTPRequestHandler):
    seen: dict = {}
    answer = b'{"risk": 0.5}'

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Gateway.seen = {"path": self.path, "body": body, **{key.lower(): value for key, value in self.headers.items()}}
        self.send_response(424, "Model Error")
        self.send_header("azureml-model-deployment", "green")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway(settings):
    folder = settings.HOME.gateway / "certs"
    ensure_certificates(folder, ca_pem=settings.HOME.ca, extra_names=())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    settings.PORT = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Gateway
    server.shutdown()
    server.server_close()


def score(world, people, body=b"{}", **values):
    request = invoke.Request(body, **values)
    return invoke.score(endpoint=world["endpoint"], requests=[request], actor=people["dan"])


def test_two_deployments_are_asked_at_the_same_time(gateway, world, people):
    requests = [invoke.Request(b"{}", deployment=name) for name in ("blue", "green")]
    answers = invoke.score(endpoint=world["endpoint"], requests=requests, actor=people["dan"])
    assert [each.status for each in answers] == [424, 424]


@pytest.mark.parametrize("path", ["score", "/a b", "/a\r\nX: y", "/" + "x" * 400, ""])
def test_a_path_that_is_none_is_refused(path, gateway, world, people):
    gateway.seen = {}
    with pytest.raises(Problem) as caught:
        score(world, people, path=path)
    assert caught.value.target == "path"
    assert gateway.seen == {}


def test_a_file_is_sent_as_it_is(gateway, world, people):
    score(world, people, body=b"\x89PNG\x00", content_type="image/png", path="/v2/infer?a=1")
    assert gateway.seen["body"] == b"\x89PNG\x00"
    assert gateway.seen["content-type"] == "image/png"
    assert gateway.seen["path"] == "/e/flowers/v2/infer?a=1"


def test_the_answer_is_handed_back_whatever_its_status(gateway, world, people):
    [answer] = score(world, people, deployment="green", body=b'{"a": 1}')
    assert (answer.status, answer.reason, answer.body, answer.deployment) == (
        424,
        "Model Error",
        '{"risk": 0.5}',
        "green",
    )
    assert answer.tone == "degraded"
    assert gateway.seen["path"] == "/e/flowers/score"
    assert gateway.seen["host"] == "localhost"
    assert gateway.seen["azureml-model-deployment"] == "green"
    from apps.gateway.domain import keys_of

    assert gateway.seen["authorization"] == f"Bearer {keys_of('flowers')['primary']}"


def test_a_large_answer_is_cut(gateway, world, people, monkeypatch):
    monkeypatch.setattr(Gateway, "answer", b"x" * (3 * 2**20))
    [answer] = score(world, people)
    assert answer.truncated
    assert len(answer.body) == invoke.ANSWER_LIMIT


def test_a_stranger_behind_the_port_is_not_trusted(gateway, world, people, settings, tmp_path):
    """Another authority's certificate: the key must not be sent to it."""
    gateway.seen = {}
    other = tmp_path / "ca.pem"
    ensure_certificates(tmp_path / "certs", ca_pem=other, extra_names=[])
    ours = settings.HOME.ca.read_bytes()
    settings.HOME.ca.write_bytes(other.read_bytes())
    try:
        [problem] = score(world, people)
        assert isinstance(problem, Problem)
        assert "CERTIFICATE_VERIFY_FAILED" in problem.evidence
        assert gateway.seen == {}
    finally:
        settings.HOME.ca.write_bytes(ours)


@pytest.mark.parametrize(
    ("values", "body"),
    [
        (
            {"input_example": {"columns": ["a"], "data": [[1], [2]]}},
            {"columns": ["a"], "index": [0, 1], "data": [[1], [2]]},
        ),
        ({"input_example": {"inputs": [1, 2]}}, [1, 2]),
        (
            {"signature": {"inputs": [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]}},
            [[0.0, 0.0]],
        ),
        ({"signature": None}, []),
    ],
)
def test_samples_follow_what_the_model_says(values, body, world):
    deployment = world["deployments"][0]
    deployment.model = make_model(world["workspace"], "other", **values)
    assert invoke.sample(deployment) == {"input_data": body}
