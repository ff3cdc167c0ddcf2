import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Problem
from apps.endpoints.rules import check_name, check_traffic

NAMES = st.sampled_from(["blue", "green", "red"])
SPLITS = st.dictionaries(NAMES, st.integers(-5, 130))


@given(live=SPLITS, shadow=SPLITS)
def test_what_is_accepted_sums_to_0_or_100_and_never_mirrors_live_traffic(live, shadow):
    try:
        traffic, mirror = check_traffic(live, shadow, deployments={"blue", "green"}, endpoint="iris")
    except Problem:
        return
    assert sum(traffic.values()) in {0, 100}
    assert all(0 < value <= 100 for value in traffic.values())
    assert len(mirror) <= 1
    assert all(0 < value <= 50 for value in mirror.values())
    assert not traffic.keys() & mirror.keys()
    assert traffic == {name: value for name, value in live.items() if value}


@given(blue=st.integers(0, 100))
def test_every_split_of_100_percent_is_accepted(blue):
    traffic, _ = check_traffic({"blue": blue, "green": 100 - blue}, {}, deployments={"blue", "green"}, endpoint="iris")
    assert sum(traffic.values()) == 100


@pytest.mark.parametrize(
    ("live", "mirror", "code"),
    [
        ({"blue": 50}, {}, "traffic-sum"),
        ({"blue": 60, "green": 60}, {}, "traffic-sum"),
        ({"blue": 101}, {}, "traffic-value"),
        ({"blue": -1}, {}, "traffic-value"),
        ({"blue": True}, {}, "traffic-value"),
        ({"blue": 99.5}, {}, "traffic-value"),
        ({"blue": "100"}, {}, "traffic-value"),
        ({"red": 100}, {}, "traffic-unknown"),
        ({"blue": 100}, {"green": 51}, "mirror-value"),
        ({"blue": 100}, {"blue": 10}, "mirror-live"),
        ({}, {"blue": 10, "green": 10}, "mirror-many"),
    ],
)
def test_a_wrong_split_is_refused_with_its_reason(live, mirror, code):
    with pytest.raises(Problem) as refused:
        check_traffic(live, mirror, deployments={"blue", "green"}, endpoint="iris")
    assert refused.value.code == code


@given(st.from_regex(r"[a-zA-Z](-?[a-zA-Z0-9]){2,15}", fullmatch=True))
def test_names_of_the_rule_are_accepted(name):
    assert check_name("endpoint", name) == name


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 33, "1abc", "abc-", "-abc", "a--b", "a_b", "a.b", "äbc", "abc\n", "a b", "a/b"]
)
def test_other_names_are_refused(name):
    with pytest.raises(Problem, match="not a valid endpoint name"):
        check_name("endpoint", name)
