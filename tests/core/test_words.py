"""What pages call states, operations and durations."""

from __future__ import annotations

import pytest

from apps.core import operations, words
from apps.core.models import Operation, OperationState


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0.07, "70 ms"),
        (1.0, "1 s"),
        (2.44, "2.4 s"),
        (300, "5 min"),
        (305.9, "5 min 5 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, shown):
    assert words.took(seconds) == shown


def test_a_record_of_the_audit_trail_says_how_the_operation_ended():
    assert words.kind_name("online-endpoint.traffic") == "Change traffic"
    assert words.kind_name("online-endpoint.update.succeeded") == "Update endpoint · Succeeded"
    assert words.kind_name("job.prepare.failed") == "Prepare job · Failed"
    assert words.kind_name("datastore.create") == "datastore · create"
    assert words.kinds_called("prepare JOB") == ["job.prepare"]


def test_every_operation_and_every_step_has_a_name():
    """Those that tests make up have none."""
    ours = [kind for kind in operations.kinds() if operations._handlers[kind].function.__module__.startswith("apps.")]
    assert len(ours) > 10
    assert {kind for kind in ours if kind not in words.OPERATIONS} == set()
    assert {step for kind in ours for step in operations.steps_of(kind) if step not in words.STEPS} == set()


def test_a_state_is_a_shape_and_a_word_that_begins_with_a_capital():
    row = Operation(state=OperationState.SUCCEEDED)
    assert words.state_of(row) == '<span class="state" data-tone="ok">Succeeded</span>'
    assert words.named("lost") == '<span class="state" data-tone="failed">Lost</span>'
    assert all(str(word)[0].isupper() for _tone, word in words.NAMED.values())
    assert words.state("ok", "<b>") == '<span class="state" data-tone="ok">&lt;b&gt;</span>'
