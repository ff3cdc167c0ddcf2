"""Commands with values in them, run by a real shell: a value is data, wherever the author put it."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.core.errors import Problem
from apps.registry.pipelines.command import check, render
from apps.registry.pipelines.interface import Declared

HOSTILE = [
    "plain",
    "",
    "a b",
    "--flag",
    "$(echo no)",
    "`echo no`",
    "'; echo no; '",
    '"; echo no; "',
    "a\necho no",
    "\\",
    "'\"'\"'",
    "$HOME ${HOME} $1",
    "*",
    "~",
    "$[[ ]] ${{inputs.x}}",
    "ü",
    "!! #",
]
# printable in any argument; a NUL cannot be in one, and \r\n are what texts are made of
VALUES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60)
PLACES = [
    "printf %s ${{inputs.x}}",
    'printf %s "${{inputs.x}}"',
    "printf %s '${{inputs.x}}'",
    "printf %s \"$(printf %s '${{inputs.x}}')\"",
    "true; printf %s ${{ inputs.x }} # ${{inputs.x}}",
    "printf %s it\\'s >/dev/null; printf %s ${{inputs.x}}",
]


def shell(script, cwd):
    ran = subprocess.run(["/bin/sh", "-c", script], capture_output=True, cwd=cwd, timeout=20, check=False)
    return ran.stdout.decode(), ran.stderr.decode()


@pytest.mark.parametrize("command", PLACES)
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_hostile_value_arrives_as_it_is(command, value, tmp_path):
    out, _ = shell(render(command, {"x": value}, {}), tmp_path)
    expected = value.rstrip("\n") if "$(" in command else value
    assert out == expected


@settings(max_examples=60, deadline=None)
@given(value=VALUES, command=st.sampled_from([each for each in PLACES if "$(" not in each]))
@example(value="\r\n", command=PLACES[0])
def test_any_value_arrives_as_it_is(value, command):
    assert shell(render(command, {"x": value}, {}), "/")[0] == value


@settings(max_examples=60, deadline=None)
@given(before=st.text("a \"'$(){}`;#<&|\n", max_size=12), after=st.text("a \"'$(){}`;#\n", max_size=12))
def test_no_place_lets_a_value_become_a_command(before, after, tmp_path_factory):
    """Wherever the placeholder stands in whatever nonsense, nothing of the value runs."""
    folder = tmp_path_factory.mktemp("sh")
    for value in (
        "$(echo>owned)",
        "`echo>owned`",
        "';echo>owned;'",
        '";echo>owned;"',
        "\necho>owned\n",
        ";echo>owned;",
    ):
        shell(render(f"{before}${{{{inputs.x}}}}{after}", {"x": value}, {}), folder)
    assert not (folder / "owned").exists()


def test_outputs_and_several_values(tmp_path):
    target = tmp_path / "a folder"
    target.mkdir()
    command = "printf '%s %s' ${{inputs.a}} ${{inputs.b}} > ${{outputs.out}}/file"
    shell(render(command, {"a": "1 2", "b": "3"}, {"out": str(target)}), "/")
    assert (target / "file").read_text() == "1 2 3"


def test_an_optional_block_goes_with_its_value():
    command = "score $[[--x ${{inputs.x}}]] $[[--both ${{inputs.x}} ${{inputs.y}}]] --end"
    assert render(command, {"x": None, "y": "1"}, {}) == "score   --end"
    assert "--x" in render(command, {"x": "", "y": None}, {})
    assert "--both" not in render(command, {"x": "", "y": None}, {})


def test_a_command_without_placeholders_is_left_alone():
    assert render("python hello.py", {"x": "1"}, {}) == "python hello.py"


def test_a_missing_value_is_refused():
    with pytest.raises(Problem):
        render("a ${{inputs.x}}", {"x": None}, {})


X = {"x": Declared("string"), "o": Declared("string", optional=True), "d": Declared("string", True, "a")}


@pytest.mark.parametrize(
    "command",
    [
        "a ${{inputs.x}} $[[--o ${{inputs.o}}]] --d ${{inputs.d}} ${{outputs.y}}",
        "a ${{ inputs.x }}\nb",
        "printf 'a\\nb'",
    ],
)
def test_good_commands(command):
    check(command, X, {"y": Declared("uri_folder")}, "command")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (" ", "required"),
        ("a \\\n b", "line"),
        ("a \\", "line"),
        ("a ${{inputs.z}}", "no inputs.z"),
        ("a ${{outputs.x}}", "no outputs.x"),
        ("a ${{secrets.x}}", "only"),
        ("a ${{inputs.x", "only"),
        ("a ${{inputs.o}}", "wrap"),
        ("a $[[--x]]", "no input"),
        ("a $[[--o ${{inputs.o}}", "]]"),
        ("a $[[ $[[${{inputs.o}}]] ]]", "nested"),
        ("a \\${{inputs.x}}", "quoted"),
        ("echo $((${{inputs.x}} + 1))", "code"),
    ],
)
def test_bad_commands(command, reason):
    with pytest.raises(Problem) as refused:
        check(command, X, {}, "command")
    assert reason in refused.value.message
    assert refused.value.message.startswith("command")
