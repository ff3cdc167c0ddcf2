import pytest

from apps.builds.conda import CondaError, translate, version_constraint
from apps.builds.requirements import RequirementError, clean


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ""),
        ("*", ""),
        ("=1.2", "==1.2.*"),
        ("=1.2.3", "==1.2.3"),
        ("==1.2", "==1.2"),
        ("==1.2.3", "==1.2.3"),
        (">=1.2,<2", ">=1.2,<2"),
        (">= 1.2", ">=1.2"),
        ("!=1.5", "!=1.5"),
        ("=1.2=py311_0", "==1.2"),
        ("=1.2.3=py311_0", "==1.2.3"),
        ("1.2 build_1", "==1.2"),
        ("1.2*", "==1.2.*"),
        ("=1.2.*", "==1.2.*"),
        ("=2", "==2.*"),
    ],
)
def test_version_constraints(written, expected):
    assert version_constraint(written) == expected


def test_a_file_with_everything_is_translated_and_every_change_is_reported():
    found = translate(
        """
name: model-env
channels: [conda-forge, nvidia]
dependencies:
  - python=3.10
  - pip
  - conda-forge::numpy=1.26
  - pytorch-cpu>=2.1
  - gcc_linux-64
  - scikit-learn=1.5.1
  - importlib_metadata
  - pip:
      - azureml-inference-server-http
      - inference-schema[numpy-support]==1.8
"""
    )
    assert found.python == "3.10"
    assert found.requirements == [
        "numpy==1.26.*",
        "torch>=2.1",
        "scikit-learn==1.5.1",
        "importlib-metadata",
        "azureml-inference-server-http",
        "inference-schema[numpy-support]==1.8",
    ]
    assert [(note.line, note.action) for note in found.notes] == [
        ("nvidia", "noted"),
        ("pytorch-cpu>=2.1", "renamed"),
        ("gcc_linux-64", "dropped"),
        ("importlib_metadata", "renamed"),
    ]


@pytest.mark.parametrize(
    ("line", "python"), [("python=3.11.7", "3.11.7"), ("python>=3.9", "3.9"), ("python", ""), ("python=3.10.*", "3.10")]
)
def test_the_python_a_file_names(line, python):
    assert translate(f"dependencies: ['{line}']").python == python


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [b", "not valid YAML"),
        ("just text", "no list"),
        ("dependencies: {}", "no list"),
        ("dependencies: [r-base-foo]", "R package"),
        ("dependencies: [{npm: [left-pad]}]", "unknown section"),
        ("dependencies: [{pip: ['-r more.txt']}]", "not supported"),
        ("dependencies: [{pip: ['-e .']}]", "not supported"),
        ("dependencies: [{pip: ['--index-url http://evil numpy']}]", "not supported"),
        ("dependencies: [7]", "neither a package"),
        ("dependencies: [{pip: ['-i http://evil numpy']}]", "not supported"),
        ("dependencies: [{pip: [[numpy]]}]", "not a requirement"),
        ("dependencies: []\nchannels: [[a]]", "channels"),
        ("dependencies: [2020-13-45]", "not valid YAML"),
        ("dependencies: " + "[" * 5000, "nested too deeply"),
        ("dependencies: [numpy]\n#" + " " * 200_000, "characters"),
        ("dependencies: ['numpy=$(rm -rf)']", "not understood"),
        ("dependencies: []\nhooks: {}", "unknown keys"),
        ("!!python/object/apply:os.system ['id']", "not valid YAML"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_the_reason(text, reason):
    with pytest.raises(CondaError, match=reason):
        translate(text)


def bomb(inside):
    """A few lines whose text would have 10**12 words."""
    lines = ["name: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"prefix{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(["variables:", *(f"  {line}" for line in lines), f"dependencies: [{inside}]"])


@pytest.mark.parametrize("inside", ["{pip: [*a11]}", "*a11"])
def test_aliases_that_multiply_are_refused_without_being_written_out(inside):
    with pytest.raises(CondaError, match="type list"):
        translate(bomb(inside))


def test_variables_are_said_to_be_dropped():
    notes = translate("dependencies: [numpy]\nvariables: {A: b}").notes
    assert [(note.line, note.action) for note in notes] == [("variables", "dropped")]


@pytest.mark.parametrize(
    "line",
    [
        "evil @ file:///etc/x-1.0-py3-none-any.whl",
        "evil@http://169.254.169.254/latest/x.whl",
        "https://example.org/x-1.0-py3-none-any.whl",
        "six @ https://example.org/${UV_INDEX_URL}/six.whl",
        "git+https://example.org/x.git",
        "dist/x-1.0-py3-none-any.whl",
        "x-1.0-py3-none-any.whl",
        "~/x.tar.gz",
        "six\n--index-url=https://evil",
        "six\r-e .",
        "six --index-url https://evil",
        "six; python_version > '3' \\",
        "six; '${HOME}' == ''",
        "-i https://evil",
        "six" * 500,
    ],
)
def test_lines_that_uv_would_follow_out_of_the_index_are_refused(line):
    with pytest.raises(RequirementError):
        clean([line])


def test_plain_requirements_pass():
    lines = [
        "numpy",
        "scikit-learn==1.5.1",
        "pandas>=1.5,<3",
        "uvicorn[standard, extra] ~= 0.30",
        "torch==2.1.0+cpu",
        "x (>=1.0)",
        "tomli>=1; python_version < '3.11' and sys_platform == \"linux\"",
        "a!=1.*",
        "b===1.0-weird",
    ]
    assert clean([*lines, "six  # why", ""]) == [*lines, "six"]
    assert clean(["x @ git+https://example.org/x.git@main"], addresses=True)
    with pytest.raises(RequirementError):
        clean(["x @ file:///etc"], addresses=True)
