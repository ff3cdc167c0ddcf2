"""The audit trail as a file: exact content, no formulas, bounded, and itself on record."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from django.test import AsyncClient
from django.utils import timezone

from apps.console import export
from apps.core import audit, leases
from apps.core.models import AuditRecord, Lease
from tests.factories import make_administrator

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/console/core/auditrecord/export/"


@pytest.fixture
def ada():
    ada = make_administrator()
    for number in range(3):
        audit.record(ada, "thing.make", workspace="lab", target=f"thing/{number}", number=number)
    audit.record(None, "=cmd|' /C calc'!A0", workspace="+1", target="@SUM(1)", text="-2+3")
    return ada


def fetch(user, query="", **data):
    """(status, headers, body), streamed as the product does it."""

    async def go():
        client = AsyncClient()
        await client.aforce_login(user)
        response = await client.post(f"{URL}?{query}", data)
        body = b"".join([part async for part in response.streaming_content]) if response.streaming else b""
        return response.status_code, response.headers, body

    return asyncio.run(go())


def test_csv_holds_the_rows_of_the_filter_newest_first(ada):
    status, headers, body = fetch(ada, "action=thing&since=2000-01-01T00:00", format="csv")
    assert status == 200
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert headers["Content-Disposition"].startswith('attachment; filename="portway-audit-')
    rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))
    assert rows[0] == ["at", "actor", "action", "workspace", "target", "request", "detail"]
    assert [row[1:] for row in rows[1:]] == [
        ["ada", "thing.make", "lab", f"thing/{number}", "", json.dumps({"number": number})] for number in (2, 1, 0)
    ]
    stamps = [each.at.isoformat() for each in AuditRecord.objects.filter(action="thing.make")]
    assert [row[0] for row in rows[1:]] == stamps


def test_no_cell_is_a_formula_and_json_stays_as_it_is(ada):
    rows = list(csv.reader(io.StringIO(fetch(ada, "q=SUM", format="csv")[2].decode("utf-8-sig"))))
    assert rows[1][1:5] == ["", "'=cmd|' /C calc'!A0", "'+1", "'@SUM(1)"]
    [line] = fetch(ada, "q=SUM", format="jsonl")[2].decode().splitlines()
    told = json.loads(line)
    assert (told["action"], told["detail"]) == ("=cmd|' /C calc'!A0", {"text": "-2+3"})


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "  =1", "\n=1"])
def test_formulas_are_quoted(text):
    assert export.plain(text) == f"'{text}"
    assert export.plain(f"a{text}") == f"a{text}"


def test_the_export_is_in_the_trail_with_its_filter(ada):
    fetch(ada, "action=thing", format="jsonl")
    record = AuditRecord.objects.get(action="audit.export")
    assert (record.actor, record.detail) == (ada, {"format": "jsonl", "filter": "action=thing"})


def test_it_is_cut_off_and_says_so(ada, monkeypatch):
    monkeypatch.setattr(export, "CHUNK", 1)
    monkeypatch.setattr(export, "MAX_ROWS", 2)
    lines = fetch(ada, "action=thing", format="jsonl")[2].decode().splitlines()
    assert [json.loads(line).get("target") for line in lines] == ["thing/2", "thing/1", None]
    assert "cut off after 2 rows" in lines[-1]
    monkeypatch.setattr(export, "MAX_S", -1.0)
    assert "cut off after 1 rows" in fetch(ada, "action=thing", format="csv")[2].decode().splitlines()[-1]


def test_rows_of_the_same_moment_come_once_each(ada, monkeypatch):
    monkeypatch.setattr(export, "CHUNK", 2)
    AuditRecord.objects.update(at=timezone.now())
    lines = fetch(ada, format="jsonl")[2].decode().splitlines()
    targets = [json.loads(line)["target"] for line in lines]
    assert sorted(targets) == ["@SUM(1)", "audit", "thing/0", "thing/1", "thing/2"]


def test_one_at_a_time_and_a_few_per_hour(ada, monkeypatch):
    grant = leases.acquire(f"console/export/{ada.pk}", holder="another tab", ttl_s=60)
    status, headers, _ = fetch(ada, "action=thing", format="csv")
    assert (status, headers["Location"]) == (302, "/console/core/auditrecord/?action=thing")
    leases.release(grant)
    assert fetch(ada, format="csv")[0] == 200
    assert fetch(ada, format="csv")[0] == 200  # the lease was given back
    monkeypatch.setattr(export, "PER_HOUR", 2)
    assert fetch(ada, format="csv")[0] == 302
    assert AuditRecord.objects.filter(action="audit.export").count() == 2


def test_an_unknown_format_is_refused(ada):
    assert fetch(ada, format="xlsx")[0] == 400
    assert not AuditRecord.objects.filter(action="audit.export").exists()


@pytest.mark.parametrize("query", ["o=99.x&p=abc", "p=99", "p=abc", "q=%00", "nope=1", "actor__password__startswith=a"])
def test_a_filter_that_cannot_be_read_costs_nothing(ada, query):
    status, headers, _ = fetch(ada, query, format="csv")
    assert status in {200, 302, 400}
    if status == 200:
        return
    assert headers.get("Location") in {None, "/console/core/auditrecord/"}
    assert not AuditRecord.objects.filter(action="audit.export").exists()
    assert not Lease.objects.filter(name__startswith="console/export", expires_at__gt=timezone.now()).exists()
    assert fetch(ada, format="csv")[0] == 200


def test_a_failure_gives_the_lease_back(ada, monkeypatch):
    def fail(*_arguments, **_more):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(export.audit, "record", fail)
        with pytest.raises(RuntimeError):
            fetch(ada, format="csv")
    assert fetch(ada, format="csv")[0] == 200


def test_a_reader_who_left_before_the_first_byte_gives_the_lease_back(ada):
    grant = leases.acquire("console/export/left", holder="x", ttl_s=60)
    export.File("csv", AuditRecord.objects.all(), grant).close()
    assert not leases.holds(grant)
