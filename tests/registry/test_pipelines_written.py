"""YAML that strangers wrote: what it says, on which line, and what is not read at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.registry.pipelines.written import LONGEST, Unreadable, Written

TEXT = """\
type: pipeline
name: flow
version: 2024-01-01
jobs:
  prep:
    inputs: {data: x}
    component:
      type: command
"""


def test_a_field_is_found_by_its_path():
    written = Written(TEXT)
    assert written.document["jobs"]["prep"]["inputs"] == {"data": "x"}
    assert written.document["version"] == "2024-01-01"  # no date
    assert written.line_of("name") == 2
    assert written.line_of("jobs.prep.inputs.data") == 6
    assert written.line_of("jobs.prep.component.command") == 7  # the nearest that is there
    assert written.line_of("code") is None


@pytest.mark.parametrize(
    ("text", "told", "line"),
    [
        ("", "must be a map", None),
        ("- 1", "must be a map", 1),
        ("a: 1\nb: [", "expected the node content", 2),
        ("a: 1\nb: c: d", "mapping values are not allowed", 2),
        ("a: 1\n---\nb: 1", "another document", 2),
        ("a: &x [1]\nb: *x", "aliases", 2),
        ("a: 1\nb:\n  c: 1\n  c: 2", "c is given twice", 4),
        ("a: !!python/object/apply:os.system [id]", "tags are not read", 1),
        ("a: !!int ''", "tags are not read", 1),
        ("a: 1\nb: ! x", "tags are not read", 2),
        ("a: =", "could not determine a constructor", 1),
        ('a: "\\0"', "not Unicode", 1),
        ('a: "\\ud800"', "not Unicode", 1),
        ("a: \x01", "no YAML", None),
        ('a: "\\UFFFFFFFF"', "no YAML", None),
        ("[" * 5000, "nested too deeply", 1),
        ("a: " + "{b: " * 5000, "nested too deeply", 1),
        ("- " * 5000, "nested too deeply", 1),
        ("#" * (LONGEST + 1), "are allowed", None),
        ("? [a]\n: 1", "unhashable", 1),
    ],
)
def test_what_is_not_read_is_told_with_its_line(text, told, line):
    with pytest.raises(Unreadable) as caught:
        Written(text)
    assert told in caught.value.reason
    assert caught.value.line == line


def test_many_lines_of_aliases_are_no_gigabytes():
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(Unreadable, match="aliases"):
        Written("\n".join(lines))


@pytest.mark.parametrize(
    "word",
    ["2024-01-01", "010", "0x1F", "0b1", "1_000", "1:30", "1:1:1.5", "1" * 5000, "0x" + "f" * 9000, "1:" * 9000 + "1"],
)
def test_what_looks_like_a_number_to_yaml_alone_is_a_text(word):
    assert Written(f"a: {word}").document == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"), [("12", 12), ("-1", -1), ("0", 0), ("1.50", 1.5), ("1.0e+3", 1000.0), ("yes", True)]
)
def test_what_people_write_as_a_value_is_one(word, value):
    assert Written(f"a: {word}").document == {"a": value}


@pytest.mark.parametrize("word", ["1.10", "010", "yes", "1:30", "1_0", "2024-01-01"])
def test_names_and_versions_are_as_they_were_written(word):
    assert Written(f"name: {word}\nversion: {word}").document == {"name": word, "version": word}


def test_keys_are_texts_and_nothing_is_merged():
    assert Written("1: a\ntrue: b\n<<: {name: c}").document == {"1": "a", "true": "b", "<<": {"name": "c"}}


@given(st.text(alphabet="ab:- \n[]{}&*!?|>'\"#%@`,0.~<=", max_size=60), st.text(max_size=20))
def test_any_text_is_read_or_refused(text, path):
    try:
        written = Written(text)
    except Unreadable:
        return
    assert isinstance(written.document, dict)
    assert written.line_of(path) is None or written.line_of(path) >= 1
