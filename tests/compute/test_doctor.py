"""Every rule of the doctor, on the words that packages and programs really use."""

import itertools
import time
from types import SimpleNamespace

import pytest

from apps.compute import doctor

LINES = {
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96, got 88": "numpy<2",
    "ValueError: node array from the pickle has an incompatible dtype:": "version of scikit-learn",
    "AttributeError: Can't get attribute 'Scaler' on <module '__main__' (built-in)>": "Move Scaler",
    "_pickle.UnpicklingError: invalid load key, 'v'.": "Upload the model file again",
    "ValueError: unsupported pickle protocol: 6": "Use the Python version",
    "ModuleNotFoundError: No module named 'sklearn.linear_model'": "Add scikit-learn to the environment",
    "ImportError: cannot import name 'parse' from 'yaml' (/x)": "The installed version of pyyaml has no",
    "ImportError: libGL.so.1: cannot open shared object file: No such file or directory": "libGL.so.1 is missing",
    "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/y.so)": "newer base image",
    "FileNotFoundError: [Errno 2] No such file or directory: 'model.pkl'": "model.pkl is not there",
    "IsADirectoryError: [Errno 21] Is a directory: '/var/azureml-app/azureml-models/m/1'": "name the file in it",
    "ImportError: attempted relative import with no known parent package": "write import helper",
    "NameError: name 'np' is not defined": "Import np",
    "TypeError: init() missing 1 required positional argument: 'context'": "called without an argument",
    "mlflow.exceptions.MlflowException: Model is missing inputs ['a', 'b'].": "missing are ['a', 'b']",
    "ValueError: could not convert string to float: 'four'": "Send numbers",
    "TypeError: Object of type ndarray is not JSON serializable": "tolist()",
    "Fatal Python error: Segmentation fault": "Native code crashed",
    "KeyError: 'MODEL_NAME'": "Is MODEL_NAME an environment variable?",
    "OSError: [Errno 30] Read-only file system: '/home/app/.cache'": "Only /tmp can be written to",
    "socket.gaierror: [Errno -3] Temporary failure in name resolution": "allow egress",
    "OSError: [Errno 98] Address already in use": "listen once",
    "AssertionError: Torch not compiled with CUDA enabled": "map_location='cpu'",
    "RuntimeError: Attempting to deserialize object on a CUDA device but": "torch.load(..., map_location='cpu')",
    "exec /usr/bin/serve: exec format error": "docker build --platform",
    "sh: /start.sh: not found": "ENTRYPOINT and CMD, and that /start.sh",
    "The program /opt/serve is not in the image or the mounts.": "ENTRYPOINT and CMD, and that /opt/serve",
    "net: Internal: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model failed": "ONNX file again",
    "[libprotobuf ERROR x.cc:337] Error parsing text-format inference.ModelConfig: 3:17: Expected integer": "at 3:17",
    "E1 3 x.cc:1] \"Poll failed for model directory 'net': unexpected platform type\"": "Correct config.pbtxt of net",
    "BadArgument: WORKER_COUNT is 'many'; set it to a whole number of at least 1.": "Correct WORKER_COUNT",
    "PermissionError: [Errno 13] Permission denied": "above port 1024",
    "chown: changing ownership of '/data': Operation not permitted": "rights of root",
    "MemoryError": "more memory",
    "Illegal instruction (core dumped)": "newer processor",
}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_line_has_its_hint_and_is_the_evidence(line):
    found = doctor.diagnose("", ["what was said before", line, "and after"])
    assert found is not None
    assert LINES[line] in found.hint
    assert found.evidence == line
    assert "{" not in found.hint + found.reason


def test_every_rule_is_met():
    met = {next(each for each in doctor.RULES if each.pattern.search(line)) for line in LINES}
    assert [each.pattern.pattern for each in doctor.RULES if each not in met] == []


def test_what_is_said_everywhere_means_nothing():
    harmless = [
        'W1 3 pinned_memory_manager.cc:273] "… CUDA driver version is insufficient for CUDA runtime version"',
        "Poll failed for model directory 'net': failed to read text proto from /x/config.pbtxt",
        "INFO starting",
        "",
    ]
    assert doctor.diagnose("", harmless) is None


def test_the_evidence_comes_before_the_log():
    found = doctor.diagnose("NameError: name 'a' is not defined", ["NameError: name 'b' is not defined"])
    assert found is not None
    assert found.hint.startswith("Import a")


HOSTILE = ["x" * 200_000, "chown" * 40_000, "ONNXRuntimeError" * 12_000, "A_" * 100_000 + " is '"]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("line", HOSTILE, ids=["plain", "chown", "onnx", "name"])
def test_a_hostile_line_is_read_in_no_time(line):
    """The timeout of the test is what fails where a pattern takes quadratic time."""
    assert doctor.diagnose("", [line] * 20) is None


@pytest.mark.parametrize(
    "word",
    [
        "lib.so",
        "ImportError: lib",
        "chown ",
        "ONNXRuntimeError",
        "sh: ",
        "exec: a",
        "A",
        "A_",
        "CUDA pinned",
        "Can't get attribute '",
        "The program ",
        "FileNotFoundError: [Errno 2] No such file or directory: '",
    ],
)
def test_crafted_lines_cost_next_to_nothing(word):
    lines = [word * (100_000 // len(word))] * doctor.LOOKED_AT
    began = time.monotonic()
    doctor.diagnose(lines[0], lines)
    assert time.monotonic() - began < 2 * doctor.MOST_S


def test_a_diagnosis_that_takes_too_long_is_none(monkeypatch):
    line = "NameError: name 'np' is not defined"
    assert doctor.diagnose(line, []) is not None
    monkeypatch.setattr(doctor, "time", SimpleNamespace(monotonic=itertools.count(step=1).__next__))
    assert doctor.diagnose(line, []) is None
