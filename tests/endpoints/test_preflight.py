"""What is seen before anything starts: pure functions over files, none of which is run."""

import os
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.builds.domain import Runnable
from apps.core.errors import Problem
from apps.endpoints import artifacts, preflight, proofs
from apps.endpoints.proofs import Line
from apps.registry import modules

GOOD = "def init(): pass\ndef run(data): return data\n"


@dataclass
class Served:
    code: Any = "code"
    scoring_script: str = "score.py"
    model: Any = None
    environment: Any = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    model_mount_path: str = ""
    properties: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A code folder, a model beside it and a built environment."""
    code, site = tmp_path / "code", tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    for each in (code, site, tmp_path / "model"):
        each.mkdir(parents=True)
    monkeypatch.setattr(preflight, "root_of", lambda _: code)
    monkeypatch.setattr(preflight, "model_root", lambda _: tmp_path / "model")
    monkeypatch.setattr(preflight.storage, "tree_path", lambda _: tmp_path / "model")
    return tmp_path


def write(folder, **files):
    for name, text in files.items():
        (folder / "code" / f"{name.replace('__', '/')}.py").parent.mkdir(exist_ok=True)
        (folder / "code" / f"{name.replace('__', '/')}.py").write_text(text)


def runnable(folder):
    return Runnable("key", folder / "env", folder / "env" / "bin" / "python", None)


def against(folder, **variables):
    return preflight.against(Served(), runnable(folder), variables=variables)


@pytest.mark.parametrize(
    "script",
    [
        GOOD,
        "from serving import *\n",
        "from serving import init, run\n",
        "import serving\ninit = serving.init\nrun = serving.run\n",
        "def build(): return print, print\ninit, run = build()\n",
        "if True:\n    def init(): pass\nelse:\n    init = print\ntry:\n    run = print\nfinally:\n    pass\n",
        "globals()['init'] = globals()['run'] = print\n",
        "exec('def init(): pass\\ndef run(x): pass')\n",
        "def setup():\n    global init, run\n    init = run = print\nsetup()\n",
        "import driver_module\n",
        "for init in [print]:\n    pass\nwith open('/dev/null') as run:\n    pass\n",
        "def init(): pass\n@wrapped\ndef run(*args): pass\n",
        "def init(): pass\ndef run(*args): pass\ndef run(data): pass\n",
        "def init(): pass\nasync def run(data, request_headers): pass\n",
        "class init: pass\nrun = lambda data: data\n",
    ],
)
def test_what_may_work_passes(folder, script):
    write(folder, score=script)
    preflight.check(Served())


@pytest.mark.parametrize(
    ("script", "evidence"),
    [
        ("def init(): pass\n", "score.py: run is not defined"),
        ("class Model:\n    def init(self): pass\n    def run(self, x): pass\n", "score.py: init is not defined"),
        ("def run(data): pass\n", "score.py: init is not defined"),
        ("def init(): pass\ndef run(): pass\n", "score.py, line 2: def run()"),
        ("def init(): pass\ndef run(request_headers): pass\n", "score.py, line 2: def run(request_headers)"),
        ("def init(): pass\ndef run(data, *more): pass\n", "score.py, line 2: def run(data, *more)"),
        ("def init(): pass\ndef run(data, **more): pass\n", "score.py, line 2: def run(data, **more)"),
        ("def init(): pass\ndef run(data, /): pass\n", "score.py, line 2: def run(data, /)"),
    ],
)
def test_what_can_never_work_is_refused(folder, script, evidence):
    write(folder, score=script)
    with pytest.raises(Problem) as refused:
        preflight.check(Served())
    assert (refused.value.code, refused.value.evidence) == ("script-function", evidence)
    assert refused.value.next_step


def test_code_of_a_container_is_nobodys_scoring_script(folder):
    write(folder, score="print(1)\n")
    preflight.check(Served(environment=Container()))


class Container:
    inference_config = {"scoringRoute": {}}


def test_modules_are_followed_only_where_they_are_imported_in_any_case(folder):
    write(folder, score=f"import one\n{GOOD}", one="import package.two\n", package__two="x = 1\n", unused="x = = 1\n")
    (folder / "code" / "package" / "__init__.py").write_text("y = = 2\n")
    with pytest.raises(Problem) as refused:
        preflight.check(Served())
    assert refused.value.evidence == "package/__init__.py, line 1: invalid syntax"
    write(folder, one="try:\n    import package.two\nexcept SyntaxError:\n    pass\n")
    preflight.check(Served())


def test_modules_that_import_each_other_and_many_of_them_come_to_an_end(folder):
    write(folder, score=f"import m0\n{GOOD}", **{f"m{n}": f"import m{n + 1}, score\n" for n in range(200)})
    preflight.check(Served())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sklearn.svm\n", "Add scikit-learn to the environment"),
        ("from PIL import Image\n", "Add pillow to the environment"),
        ("import helper\n", "Add yaml2 to the environment"),
    ],
)
def test_an_import_that_nothing_provides_is_found_before_the_start(folder, script, said):
    write(folder, score=script + GOOD, helper="import yaml2\n")
    with pytest.raises(Problem) as refused:
        against(folder)
    assert (refused.value.code, refused.value.entry.azure) == ("script-import", "UserScriptImportError")
    assert said in refused.value.next_step
    assert ", line 1: import " in refused.value.evidence


@pytest.mark.parametrize(
    "script",
    [
        "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n",
        "def later():\n    import nowhere\n",
        "import sys\nsys.path.append('/opt/more')\nimport nowhere\n",
        "from sys import path\npath.append('/opt/more')\nimport nowhere\n",
        "import site\nsite.addsitedir('/opt/more')\nimport nowhere\n",
    ],
)
def test_an_import_that_may_not_happen_is_only_remarked(folder, script):
    write(folder, score=script + GOOD)
    [said] = against(folder)
    assert "import nowhere" in said


def test_what_the_environment_the_folder_or_python_provides_is_fine(folder):
    site = folder / "env" / "lib" / "python3.11" / "site-packages"
    for name in ("numpy", "scikit_learn-1.9.1.dist-info"):
        (site / name).mkdir()
    (site / "six.py").touch()
    (site / "_fast.cpython-311-x86_64-linux-gnu.so").touch()
    (site / "distutils-precedence.pth").write_text("import os; os.environ\n")
    lines = (
        "import json, six, _fast, numpy.linalg, mine.deep\nfrom . import mine\nfrom azureml.contrib import services\n"
    )
    write(folder, score=lines + "if TYPE_CHECKING:\n    import nowhere\n" + GOOD, mine__deep="")
    assert against(folder) == []


def test_what_an_image_left_in_the_environment_is_not_followed(folder):
    """A pipe would never end, and a link leads out."""
    site = folder / "env" / "lib" / "python3.11" / "site-packages"
    write(folder, score=f"import nowhere\n{GOOD}")
    os.mkfifo(site / "pipe.pth")
    (folder / "env" / "requirements.lock").symlink_to("/etc/hosts")
    served = Served(model=Model())
    assert preflight.against(served, runnable(folder), variables={}) == []


@pytest.mark.parametrize("how", ["pth", "variable", "image"])
def test_where_modules_may_come_from_elsewhere_nothing_is_certain(folder, how):
    write(folder, score=f"import nowhere\n{GOOD}")
    if how == "pth":
        (folder / "env" / "lib" / "python3.11" / "site-packages" / "more.pth").write_text("/opt/more\n")
        assert against(folder) == []
    elif how == "variable":
        assert len(against(folder, PYTHONPATH="/opt/more")) == 1
    else:
        there = Runnable("key", folder / "env", None, None, "sha256:0")
        assert len(preflight.against(Served(), there, variables={})) == 1


def test_a_pointer_of_git_lfs_is_no_model(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    write(folder, score=GOOD)
    (folder / "model" / "picture.png").write_text(text)
    served = Served(model=Model())
    preflight.check(served)
    assert preflight.remarks(served) == ["picture.png of the model is a pointer of git-lfs, not the file itself."]
    (folder / "model" / "deep").mkdir()
    (folder / "model" / "deep" / "weights.safetensors").write_text(text)
    with pytest.raises(Problem) as refused:
        preflight.check(served)
    assert refused.value.code == "model-invalid"
    assert "deep/weights.safetensors" in refused.value.message


class Model:
    tree_id = "x"
    path = ""


def test_relative_paths_are_remarked_unless_the_file_is_there_or_the_folder_is_asked_for(folder):
    served = Served(model=Model())
    write(folder, score=f"import joblib\ndef load():\n    return joblib.load('model.pkl'), open('score.py')\n{GOOD}")
    [said] = preflight.remarks(served)
    assert said.startswith("score.py, line 3, opens 'model.pkl'")
    write(folder, score=f"import os\nplace = os.environ['AZUREML_MODEL_DIR']\nopen('model.pkl')\n{GOOD}")
    assert preflight.remarks(served) == []
    write(folder, score=f"open('/etc/hosts')\nopen('https://x/y.z')\nopen(GOOD)\nopen()\nopen('a\\0.b')\n{GOOD}")
    assert len(preflight.remarks(served)) == 1  # the last: no file system has such a name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_says_which_scikit_learn_wrote_it(folder, protocol):
    state = {"coef_": [0.0] * 200_000, "_sklearn_version": "1.2.2"}
    (folder / "model" / "model.joblib").write_bytes(pickle.dumps(state, protocol=protocol))
    (folder / "model" / "other.pkl").write_bytes(pickle.dumps({"_sklearn_version": 3}))
    assert artifacts.sklearn_versions(folder / "model") == {"model.joblib": "1.2.2"}
    lock = folder / "env" / "requirements.lock"
    write(folder, score=GOOD)
    served = Served(model=Model())
    assert preflight.against(served, runnable(folder), variables={}) == []
    lock.write_text("numpy==2.4.6\nscikit-learn==1.2.1\n")
    assert preflight.against(served, runnable(folder), variables={}) == []
    lock.write_text("numpy==2.4.6\nscikit-learn==1.9.1\n")
    [said] = preflight.against(served, runnable(folder), variables={})
    assert said.startswith("model.joblib was saved with scikit-learn 1.2.2, and the environment has 1.9.1")


def test_nothing_of_what_is_looked_at_is_run(folder):
    """A pickle and a script that would leave a mark if they were."""
    mark = folder / "mark"
    evil = pickle.dumps(Evil(mark)) + b"_sklearn_version\x8c\x051.2.2"
    (folder / "model" / "model.pkl").write_bytes(evil)
    write(
        folder, score=f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n{GOOD}", sitecustomize="raise SystemExit"
    )
    served = Served(model=Model())
    preflight.check(served)
    preflight.remarks(served)
    preflight.against(served, runnable(folder), variables={})
    assert not mark.exists()


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_model_of_many_files_is_looked_at_within_bounds(folder, monkeypatch):
    monkeypatch.setattr(artifacts, "MOST_FILES", 5)
    for number in range(20):
        (folder / "model" / f"{number:02}.pkl").write_bytes(b"x")
    assert len(list(artifacts.files_of(folder / "model"))) == 5


@pytest.mark.parametrize("text", ["(" * 5000, "x = 1\0", "\xff".encode("latin-1"), "if 1:\n" + "elif 1:\n  x\n" * 3000])
def test_hostile_files_are_unreadable_and_no_more(tmp_path, text):
    file = tmp_path / "score.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(modules.Unreadable):
        modules.read(file, "score.py")


def test_a_long_chain_of_branches_is_read(tmp_path):
    file = tmp_path / "score.py"
    file.write_text("if a:\n  x = 1\n" + "elif a:\n  import json\n" * 400 + GOOD)
    assert {"init", "run", "x"} <= modules.read(file, "score.py").names


TRACE = [
    Line(
        "2026-01-01 10:00:00,000 E [7] portway - [abc] Encountered Exception: Traceback (most recent call last):", True
    ),
    Line('  File "/opt/portway/runtime/serving/script.py", line 1, in _answer', False),
    Line('  File "/var/azureml-app/code/score.py", line 9, in run', False),
    Line('  File "/env/numpy/core.py", line 3, in check', False),
    Line("ValueError: bad shape", False),
    Line("its second line", False),
]
NEXT = Line(
    "2026-01-01 10:00:01,000 E [7] portway - [def] Encountered Exception: Traceback (most recent call last):", False
)


def test_the_proof_is_the_requests_own_exception_at_the_users_line():
    lines = [Line("printed", False), *TRACE, NEXT, Line("OSError: of another", False)]
    found = proofs.proof("model-error", lines, None)
    assert found.evidence == "score.py:9 in run: ValueError: bad shape"
    unnamed = [Line(each.text, False) for each in TRACE]
    assert proofs.proof("model-error", unnamed, None).evidence == "score.py:9 in run: ValueError: bad shape"


def test_other_verdicts_have_their_own_proofs():
    refused = [Line("x - [abc] Input refused: no column a", True), Line("x - [def] Input refused: of another", False)]
    assert proofs.proof("model-refused", refused, None).evidence == "no column a"
    assert proofs.proof("model-refused", [], None).evidence == ""
    ended = {"message": "It used more than 1 MiB.", "evidence": "reading", "next": "Choose more."}
    found = proofs.proof("model-gone", [Line("last", False)], ended)
    assert (found.evidence, found.hint) == ("It used more than 1 MiB. reading", "Choose more.")
    assert proofs.proof("timeout", [Line("last", False), Line(" ", False)], None).evidence == "last"
    assert proofs.proof("answered", TRACE, None).evidence == ""
    assert proofs.proof("model-error", [Line("Traceback (most recent call last):", True)], None).evidence == ""
