import pytest

from apps.builds.conda import CondaError, translate, version_constraint


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


@pytest.mark.parametrize(("line", "python"), [("python=3.11.7", "3.11.7"), ("python>=3.9", "3.9"), ("python", ""), ("python=3.10.*", "3.10")])
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
        ("dependencies: ['numpy=$(rm -rf)']", "not understood"),
        ("dependencies: []\nhooks: {}", "unknown keys"),
        ("!!python/object/apply:os.system ['id']", "not valid YAML"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_the_reason(text, reason):
    with pytest.raises(CondaError, match=reason):
        translate(text)
