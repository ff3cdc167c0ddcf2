"""What the last words of a model server mean, and what to do about them. Pure functions over the lines of its log.

Each rule was met in a broken project below `tests/broken`, or is a message that the package named in it documents.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

LOOKED_AT = 200  # of the last lines
READ = 500  # characters of a line: what is longer is data
LONGEST = 400
MOST_S = 0.2  # of looking at one log: its lines are written by strangers, and none may cost more

# What people import is not always what they install.
PACKAGE_OF = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "skimage": "scikit-image",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "attr": "attrs",
    "Crypto": "pycryptodome",
    "google.protobuf": "protobuf",
    "inference_schema": "inference-schema",
    "azureml": "azureml-inference-server-http",
    "jwt": "pyjwt",
    "fitz": "pymupdf",
}


@dataclass(frozen=True)
class Diagnosis:
    """`code` of the problem catalogue, "" to keep the one there is; `reason` likewise."""

    code: str
    reason: str
    hint: str
    evidence: str
    lists_model: bool = False  # the files of the model help to see it


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    hint: str
    code: str = ""
    reason: str = ""
    lists_model: bool = False


def rule(pattern: str, hint: str, *, code: str = "", reason: str = "", lists_model: bool = False) -> Rule:
    return Rule(re.compile(pattern), hint, code, reason, lists_model)


RULES: Sequence[Rule] = (
    rule(
        r"(?P<what>numpy\.(?:dtype|ufunc) size changed|numpy\.core\.multiarray failed to import"
        r"|compiled using NumPy 1\.x cannot be run in)",
        "Add numpy<2 to the environment, or take newer versions of the packages built on numpy.",
        reason="A package was built for numpy 1 and meets numpy 2.",
    ),
    rule(
        r"node array from the pickle has an incompatible dtype"
        r"|Can't get attribute '(?P<name>[^']{1,200})' on <module '(?P<module>sklearn[^']*)'"
        r"|No module named '(?:sklearn\.(?:externals|\w+\.\w+_?|ensemble\.\w+|tree\.tree|linear_model\.\w+))'",
        "Install the version of scikit-learn that the model was saved with, or save it again with the installed one.",
        code="model-load",
        reason="The model was saved with another version of scikit-learn than the one installed.",
    ),
    rule(
        r"Can't get attribute '(?P<name>[^']{1,200})' on <module '(?:__main__|__mp_main__)'",
        "Move {name} to a module that both training and the scoring script import, and save the model again.",
        code="model-load",
        reason="The pickle needs {name}, which was defined in the script or notebook that saved it.",
    ),
    rule(
        r"(?:invalid load key|unpickling stack underflow|pickle data was truncated|UnpicklingError"
        r"|EOFError: Ran out of input)",
        "Upload the model file again; a git-lfs pointer or half a download looks like this.",
        code="model-load",
        reason="The model file is not a whole pickle.",
    ),
    rule(
        r"unsupported pickle protocol: (?P<protocol>\d)",
        "Use the Python version the model was saved with, or save it with an older protocol.",
        code="model-load",
        reason="The model was saved by a newer Python.",
    ),
    rule(
        r"ModuleNotFoundError: No module named '(?P<module>[^']{1,200})'",
        "Add {package} to the environment, or the module to the code folder.",
    ),
    rule(
        r"ImportError: cannot import name '(?P<name>[^']{1,200})' from '(?P<module>[^']{1,200})'",
        "The installed version of {package} has no {name}: pin the version your code was written for.",
    ),
    rule(
        r"ImportError: (?P<library>lib[\w.+-]{1,80}): cannot open shared object file",
        "The system library {library} is missing: build the environment from a Dockerfile that installs it, "
        "or take a package that brings it (opencv-python-headless instead of opencv-python).",
    ),
    rule(
        r"version `(?P<libc>GLIBC_[\d.]+)' not found",
        "The image is older than the package: use a newer base image.",
        reason="A package needs {libc}, which this image does not have.",
    ),
    rule(
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>[^']{1,200})'",
        "{path} is not there. Build paths from os.environ['AZUREML_MODEL_DIR']; a registered folder is a level in it.",
        lists_model=True,
    ),
    rule(
        r"IsADirectoryError: \[Errno 21\] Is a directory: '(?P<path>[^']{1,200})'",
        "{path} is a folder: name the file in it.",
        lists_model=True,
    ),
    rule(
        r"attempted relative import with no known parent package",
        "The script is no package: write import helper in place of from . import helper.",
    ),
    rule(
        r"NameError: name '(?P<name>\w+)' is not defined",
        "Import {name}, or define it before it is used.",
    ),
    rule(
        r"TypeError: init\(\) missing \d+ required positional arguments?",
        "init() is called without an argument: read settings from environment variables instead.",
    ),
    rule(
        r"Model is missing inputs (?P<names>\[[^\]]{0,300}\])",
        "Send every column that the model's signature names; missing are {names}.",
    ),
    rule(
        r"could not convert string to float|dtype='numeric' is not compatible with arrays of bytes/strings",
        "Send numbers where the model expects numbers, or convert texts in run() first.",
    ),
    rule(
        r"TypeError: Object of type (?P<name>\w+) is not JSON serializable",
        "Return what JSON can hold from run(): numbers, texts, lists, maps; for arrays and frames call tolist().",
    ),
    rule(
        r"Fatal Python error: (?P<what>Segmentation fault|Aborted|Bus error)",
        "Native code crashed: the log shows the Python line that called it. Try other versions of that package.",
        reason="The process ended with a crash in native code ({what}).",
    ),
    rule(
        r"KeyError: '(?P<name>[A-Z][A-Z0-9_]{2,})'",
        "Is {name} an environment variable? Give it in environment_variables.",
    ),
    rule(
        r"(?:Read-only file system|OSError: \[Errno 30\])",
        "Only /tmp can be written to: set caches there, e.g. HF_HOME, MPLCONFIGDIR or TRANSFORMERS_CACHE to /tmp.",
        reason="The server tried to write to a read-only folder.",
    ),
    rule(
        r"(?:Temporary failure in name resolution|Name or service not known|\[Errno -[23]\])",
        "Put the files into the model or the image, or allow egress for this deployment (only at its creation).",
        reason="The server tried to reach the network and found no name server.",
    ),
    rule(
        r"(?:Address already in use|\[Errno 98\])",
        "Let the program listen once, on the port of the scoring route.",
        reason="The server tried to listen on a port that is taken.",
    ),
    rule(
        r"^(?!.{0,400}pinned_memory_manager)"  # Triton says so everywhere, and goes on
        r".{0,400}(?:Torch not compiled with CUDA enabled|Found no NVIDIA driver|CUDA driver version is insufficient)",
        "Load the model on the CPU (map_location='cpu'), or choose an instance type with a graphics card.",
        reason="The code asks for CUDA, which this instance does not have.",
    ),
    rule(
        r"Attempting to deserialize object on a CUDA device",
        "Call torch.load(..., map_location='cpu').",
        code="model-load",
        reason="The model was saved on a graphics card.",
    ),
    rule(
        r"exec format error",
        "Build the image for this machine's processor (docker build --platform).",
        reason="The image is for another kind of processor.",
    ),
    rule(
        r"(?:exec|executable file|bash|sh): (?P<path>\S{1,200}): "
        r"(?:not found|no such file or directory|permission denied)",
        "Check the image's ENTRYPOINT and CMD, and that {path} is there and may be executed.",
    ),
    rule(
        r"The program (?P<path>\S{1,200}) is not in the image",
        "Check the image's ENTRYPOINT and CMD, and that {path} is there and may be executed.",
    ),
    rule(
        r"ONNXRuntimeError.{0,200}(?:INVALID_PROTOBUF|Protobuf parsing failed)",
        "Export or upload the ONNX file again: it is not whole, or it is another kind of file.",
        code="model-load",
        reason="A model file is no ONNX model.",
    ),
    rule(
        r"Error parsing text-format inference\.ModelConfig: (?P<where>.{0,200})",
        "Correct config.pbtxt at {where}.",
        code="model-load",
        reason="The config.pbtxt of a model cannot be read ({where}).",
    ),
    rule(
        r"Poll failed for model directory '(?P<name>[^']{1,200})': (?!failed to read text proto)",
        "Correct config.pbtxt of {name}, or the files beside it.",
        code="model-load",
        reason="Triton did not take the model {name}.",
    ),
    rule(
        r"\b(?P<name>[A-Z][A-Z0-9_]{1,80}) is '(?P<value>[^']{0,200})'; set it to a whole number",
        "Correct {name} in environment_variables.",
    ),
    rule(
        r"PermissionError: \[Errno 13\] Permission denied",
        "The server runs without rights: listen above port 1024 and write below /tmp only.",
    ),
    rule(
        r"(?:chown|setuid|setgid|setgroups|initgroups)\b.{0,200}(?:Operation not permitted|failed \(1)",
        "Containers have no rights of root here: give the image a USER of its own, as the unprivileged variants of "
        "official images do.",
        reason="The server tried to use rights of root that it does not have.",
    ),
    rule(
        r"^MemoryError|: MemoryError", "Choose an instance type with more memory.", reason="The memory did not suffice."
    ),
    rule(r"Illegal instruction", "The package needs a newer processor: take a build for this one."),
)
SIGNALS = {
    4: "illegal instruction: a package was built for another processor",
    6: "it aborted itself",
    7: "bus error: often a full /dev/shm",
    9: "somebody killed it",
    11: "segmentation fault in native code",
    15: "it was asked to end",
}


def diagnose(evidence: str, lines: Sequence[str]) -> Diagnosis | None:
    """The first rule that fits the evidence, else the latest line that any rule fits; None when none does in time."""
    deadline = time.monotonic() + MOST_S
    for line in (evidence, *reversed(lines[-LOOKED_AT:])):
        for each in RULES:
            if time.monotonic() > deadline:
                return None
            match = each.pattern.search(line[:READ])
            if match:
                return _filled(each, match, line)
    return None


def _filled(found: Rule, match: re.Match[str], line: str) -> Diagnosis:
    groups = {name: text or "" for name, text in match.groupdict().items()}
    module = groups.get("module", "")
    top = module.partition(".")[0]
    groups["package"] = PACKAGE_OF.get(module) or PACKAGE_OF.get(top) or top
    reason, hint = found.reason.format(**groups), found.hint.format(**groups)
    return Diagnosis(found.code, reason, hint, line.strip()[:LONGEST], found.lists_model)


def ended_by(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is None:
        return "it left no trace"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    return f"killed by signal {-exit_code}" + (f" ({SIGNALS[-exit_code]})" if -exit_code in SIGNALS else "")
