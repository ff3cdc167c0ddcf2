"""A call of a live endpoint in the languages its callers write."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.conf import settings

from apps.studio.ascode import joined
from apps.studio.pretty import sound

BODY_SHOWN = 4_000


def request(endpoint_name: str, *, path: str, body: str, deployment: str = "") -> list[tuple[str, str, str]]:
    """A call of the live endpoint in three languages: (id, name, text)."""
    address = f"{settings.BASE_URL}/e/{endpoint_name}{path}"
    try:
        value = json.loads(body) if len(body) <= BODY_SHOWN else None
        json.dumps(value)
    except (ValueError, RecursionError):
        value = None
    short = value is not None
    header = [("azureml-model-deployment", deployment)] if deployment else []
    return [
        ("curl", "curl", _curl(address, json.dumps(value) if short else "", header)),
        ("python", "Python", _python(address, value if short else None, header)),
        ("javascript", "JavaScript", _javascript(address, value if short else None, header)),
    ]


def _curl(address: str, body: str, headers: list[tuple[str, str]]) -> str:
    parts = ["--cacert ca.pem", '-H "Authorization: Bearer $ENDPOINT_KEY"', '-H "Content-Type: application/json"']
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers]
    return joined(f"curl {shlex.quote(address)}", [*parts, f"-d {shlex.quote(body)}" if body else "-d @request.json"])


def _python(address: str, body: Any, headers: list[tuple[str, str]]) -> str:
    more = "".join(f"        {name!r}: {value!r},\n" for name, value in headers)
    payload = repr(body) if body is not None else 'json.load(open("request.json"))'
    return f"""\
import json, os, ssl, urllib.request

body = {payload}
request = urllib.request.Request(
    {address!r},
    json.dumps(body).encode(),
    {{
        "Authorization": "Bearer " + os.environ["ENDPOINT_KEY"],
        "Content-Type": "application/json",
{more}    }},
)
trust = ssl.create_default_context(cafile="ca.pem")
with urllib.request.urlopen(request, context=trust, timeout=60) as answer:
    print(answer.headers["azureml-model-deployment"], answer.read().decode())
"""


def _javascript(address: str, body: Any, headers: list[tuple[str, str]]) -> str:
    more = "".join(f"    {json.dumps(name)}: {json.dumps(value)},\n" for name, value in headers)
    payload = (
        sound(json.dumps(body, ensure_ascii=False))
        if body is not None
        else 'JSON.parse(await readFile("request.json", "utf8"))'
    )
    load = "" if body is not None else 'import { readFile } from "node:fs/promises";\n\n'
    return f"""\
{load}// Node: start it with NODE_EXTRA_CA_CERTS=ca.pem
const answer = await fetch({json.dumps(address)}, {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.ENDPOINT_KEY}}`,
    "Content-Type": "application/json",
{more}  }},
  body: JSON.stringify({payload}),
}});
console.log(answer.status, answer.headers.get("azureml-model-deployment"), await answer.text());
"""
