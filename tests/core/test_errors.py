import string

import pytest

from apps.core.errors import CATALOGUE, Problem
from tests.errors_page import PAGE, page

OWN = {"evidence", "target", "details", "code"}


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(str(text)) if name}


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_entry_can_be_said(code):
    entry = CATALOGUE[code]
    names = placeholders(entry.message) | placeholders(entry.next_step)
    assert not names & OWN, "these are arguments of Problem itself"
    problem = Problem(code, **dict.fromkeys(names, "X"))
    assert problem.message
    assert "{" not in problem.message + problem.next_step
    assert entry.azure.isalnum()
    assert (entry.status >= 500) == (entry.fault == "system") or entry.fault == "capacity"


def test_a_users_error_is_never_one_the_sdk_would_retry():
    retried = {408, 429, 500, 502, 503, 504}
    assert [code for code, entry in CATALOGUE.items() if entry.fault == "user" and entry.status in retried] == []


def test_the_envelope_has_what_the_sdk_reads():
    problem = Problem("traffic-sum", total=50, target="traffic", evidence="blue=50")
    error = problem.as_envelope()["error"]
    assert error["code"] == "BadArgument"
    assert error["message"] == "Traffic must sum to 0 or 100 percent, not 50."
    assert error["target"] == "traffic"
    assert {"code": "Evidence", "message": "blue=50"} in error["details"]
    assert error["additionalInfo"] == [{"type": "Portway", "info": {"code": "traffic-sum", "fault": "user"}}]


def test_the_page_of_errors_is_that_of_the_catalogue():
    assert PAGE.read_text() == page(), "python -m tests.errors_page writes it"


def test_a_users_error_says_what_to_do_unless_the_message_does():
    said_by_the_message = {
        "not-found", "bad-json", "bad-name", "conflict", "traffic-sum", "traffic-value", "traffic-unknown",
        "traffic-at-create", "mirror-value", "mirror-many", "mirror-live", "no-keys", "no-tokens", "upload-refused",
        "upload-too-large", "weak-password", "canceled",
    }  # fmt: skip
    silent = {code for code, entry in CATALOGUE.items() if entry.fault == "user" and not entry.next_step}
    assert silent == said_by_the_message
