import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem


@given(st.integers(0, 10**9))
def test_what_is_written_is_read_back(milliseconds):
    assert duration_ms(duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("PT5S", 5000), ("PT1M30S", 90_000), ("PT0.5S", 500), ("P1DT1H", 90_000_000)]
)
def test_the_usual_forms(text, milliseconds):
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "5", "PT5", "PT-5S", "PT5s", "P1W", "PT" + "9" * 400 + "S", "PT1e3S"]
)
def test_everything_else_is_refused(text):
    with pytest.raises(Problem, match="not an ISO-8601 duration"):
        duration_ms(text)
