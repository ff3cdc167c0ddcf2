"""Kubernetes' quantities, as properties and by example."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as some

from apps.compute import quantities
from apps.compute.quantities import GIB, Size
from apps.core.errors import Problem

BASE = Size(2000, 4 * GIB, 0)
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4}
DECIMAL = {"k": 1, "M": 2, "G": 3, "T": 4}


@pytest.mark.parametrize(
    ("text", "milli"),
    list(
        zip(
            ("0.5", "500m", "1", "0.1", "1e0", "1E1", "2.", ".25", "+1", "1k", "1u", "0.0001", "1500001u"),
            (500, 500, 1000, 100, 1000, 10_000, 2000, 250, 1000, 1_000_000, 1, 1, 1501),
            strict=True,
        )
    ),
)
def test_cpu(text, milli):
    assert quantities.cpu_milli(text) == milli


@pytest.mark.parametrize(
    ("text", "size"),
    list(
        zip(
            ("1Gi", "512Mi", "0.2Gi", "1G", "64Ki", "1024", "1e9", "1E", "1Ei", "1500m"),
            (GIB, 512 * 2**20, ceil(Fraction(GIB, 5)), 10**9, 65536, 1024, 10**9, 10**18, 2**60, 2),
            strict=True,
        )
    ),
)
def test_memory(text, size):
    assert quantities.mem_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "1 Gi", "-1", "1gi", "1ki", "Gi", "1GiB", "0x10", "1e999", "\u0661", "NaN", "inf"]
)
@pytest.mark.parametrize("read", [quantities.cpu_milli, quantities.mem_bytes, quantities.gpu_count])
def test_what_is_no_quantity(read, text):
    with pytest.raises(Problem) as caught:
        read(text, "limits.cpu")
    assert (caught.value.code, caught.value.target) == ("bad-field", "limits.cpu")


@given(some.text(max_size=40) | some.from_regex(quantities.QUANTITY, fullmatch=True))
def test_any_text_is_a_number_or_a_problem(text):
    for read in quantities.READERS.values():
        with suppress(Problem):
            value = read(text)
            assert isinstance(value, int)
            assert value >= 0


@given(some.integers(0, 10**12), some.sampled_from(sorted(BINARY)))
def test_binary_suffixes_are_powers_of_1024(number, suffix):
    assert quantities.mem_bytes(f"{number}{suffix}") == number * 1024 ** BINARY[suffix]


@given(some.integers(0, 10**12), some.sampled_from(sorted(DECIMAL)))
def test_decimal_suffixes_are_powers_of_1000(number, suffix):
    assert quantities.mem_bytes(f"{number}{suffix}") == number * 1000 ** DECIMAL[suffix]


@given(some.integers(0, 10**9))
def test_milli_and_fractions_are_the_same(milli):
    assert quantities.cpu_milli(f"{milli}m") == milli
    assert quantities.cpu_milli(f"{milli / 1000:.3f}") == milli


@given(some.decimals(0, 10**9, places=6))
def test_nothing_is_lost_and_what_is_left_over_counts(number):
    exact = Fraction(number) * 2**20
    assert quantities.mem_bytes(f"{number}Mi") == ceil(exact)


def test_limits_take_the_place_of_the_types_size():
    assert quantities.limits_of({}, BASE) == BASE
    assert quantities.limits_of({"limits": {"cpu": "0.5"}}, BASE) == Size(500, 4 * GIB, 0)
    full = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi", "gpu": "2"}}
    assert quantities.limits_of(full, BASE) == Size(1000, GIB, 2)


@pytest.mark.parametrize(
    ("resources", "target"),
    [
        ({"requests": {"cpu": "1"}, "limits": {"cpu": "500m"}}, "containerResourceRequests.cpu"),
        ({"requests": {"cpu": "3"}}, "containerResourceRequests.cpu"),  # more than the type has
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}, "containerResourceRequests.memory"),
        ({"requests": {"gpu": "1"}}, "containerResourceRequests.gpu"),
        ({"limits": {"cpu": "50m"}}, "containerResourceLimits.cpu"),
        ({"limits": {"cpu": "2000"}}, "containerResourceLimits.cpu"),
        ({"limits": {"memory": "1Mi"}}, "containerResourceLimits.memory"),
        ({"limits": {"memory": "999Ti"}}, "containerResourceLimits.memory"),
        ({"limits": {"gpu": "0.5"}}, "containerResourceLimits.gpu"),
        ({"limits": {"gpu": "65"}}, "containerResourceLimits.gpu"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(resources, target):
    with pytest.raises(Problem) as caught:
        quantities.limits_of(resources, BASE)
    assert caught.value.code == "bad-field"
    assert caught.value.target == f"containerResourceRequirements.{target}"


def test_people_read_cores_and_gib():
    assert [quantities.cores(each) for each in (500, 1000, 1250, 0)] == ["0.5", "1", "1.25", "0"]
    assert [quantities.gib(each) for each in (GIB, GIB * 3 // 2, 0, 1000 * GIB)] == [
        "1 GiB",
        "1.5 GiB",
        "0 GiB",
        "1000 GiB",
    ]
