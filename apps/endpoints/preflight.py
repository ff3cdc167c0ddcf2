"""A look at what will be deployed, before anything is started: what is certainly wrong, and what may be.

Files are read in bounded amounts and never run, imported or unpickled. What is certain is refused when the deployment
is made; the rest becomes a sentence in its timeline.
"""

from __future__ import annotations

import ast
import re
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from django.utils.translation import gettext as _

from apps.builds.domain import Runnable
from apps.compute.doctor import PACKAGE_OF
from apps.core.errors import Problem
from apps.endpoints import artifacts
from apps.endpoints.contents import Served, contents_of
from apps.endpoints.servers import Server, server_of
from apps.registry import modules, storage
from apps.registry.models import ModelVersion
from apps.registry.modules import Import, Source
from apps.registry.scripts import root_of

MOST_MODULES = 50  # of the user's own that are read
MODULE_BYTES = 200_000
READ_BYTES = 1_000_000  # of all of them
MOST_NAMES = 50_000  # of an environment
PTH_BYTES = 65_536
LOCK_BYTES = 1_000_000
MOST_REMARKS = 12
OURS = {"azureml", "azureml_inference_server_http"}  # our server answers for what of them scripts use
SCRIPT_FIELD = "codeConfiguration.scoringScript"
LOCKED = re.compile(r"^scikit-learn==(?P<version>\S+)", re.MULTILINE)


def check(served: Served) -> None:
    """Refuse what can never work.

    Raises:
        Problem: "script-function", "script-syntax" of a module that the script imports, "model-invalid".
    """
    served = contents_of(served)
    if _has_script(served):
        found = _read(served)
        _check_functions(found[0])
    if served.model is not None:
        _check_weights(served.model)


def _has_script(served: Served) -> bool:
    """A container of the user's own has no scoring script, even when code is mounted into it."""
    return served.code is not None and server_of(served) in {Server.PORTWAY, Server.AZUREML}


def _read(served: Served) -> list[Source]:
    """The script, then those modules of its folder that it imports in any case, and what they import.

    Raises Problem "script-syntax".
    """
    script = served.scoring_script
    folder = (root_of(served.code) / script).parent
    found: list[Source] = []
    waiting, seen, room = [script], {script}, READ_BYTES
    while waiting and len(found) < MOST_MODULES:
        name = waiting.pop(0)
        try:
            source = modules.read(root_of(served.code) / name, name)
        except modules.Unreadable as error:
            raise Problem("script-syntax", script=name, evidence=str(error), target=SCRIPT_FIELD) from None
        found.append(source)
        for each in source.imports:
            file = _module_file(folder, each.top) if each.sure else None
            path = file.relative_to(root_of(served.code)).as_posix() if file else ""
            if file and path not in seen and room > 0:
                seen.add(path)
                room -= file.stat().st_size
                waiting.append(path)
    return found


def _module_file(folder: Path, name: str) -> Path | None:
    for file in (folder / name / "__init__.py", folder / f"{name}.py"):
        if file.is_file() and file.stat().st_size <= MODULE_BYTES:
            return file
    return None


def _check_functions(script: Source) -> None:
    if script.dynamic:
        return
    for name in ("init", "run"):
        if name not in script.names:
            reason = _("The scoring script %(script)s has no %(name)s() function; define init() and run().")
            raise _function(reason % {"script": script.name, "name": name}, f"{script.name}: {name} is not defined")
    if len(script.runs) != 1 or script.runs[0].decorator_list:
        return
    run = script.runs[0]
    given = run.args
    line = f"{script.name}, line {run.lineno}: def run({ast.unparse(given)[: modules.SHOWN]})"
    hint = _("Let run() have one parameter with a name, as in def run(data).")
    if given.vararg or given.kwarg or given.posonlyargs:
        reason = _("run() of the scoring script %(script)s has *args, **kwargs or positional-only parameters.")
        raise _function(reason % {"script": script.name}, line, hint)
    if not {each.arg for each in [*given.args, *given.kwonlyargs]} - {"request_headers"}:
        raise _function(
            _("run() of the scoring script %(script)s takes no data.") % {"script": script.name}, line, hint
        )


def _function(reason: str, evidence: str, hint: str = "") -> Problem:
    return Problem("script-function", reason=reason, evidence=evidence, hint=hint, target=SCRIPT_FIELD)


def model_root(model: ModelVersion) -> Path:
    """The model's folder or file on disk."""
    return storage.tree_path(model.tree_id) / model.path


def _check_weights(model: ModelVersion) -> None:
    found = artifacts.pointers(model_root(model)).weights
    if found:
        raise Problem(
            "model-invalid",
            kind=_("model"),
            reason=_("%(file)s is a pointer of git-lfs, not the file itself.") % {"file": found[0]},
            hint=_("Run git lfs pull in the repository, then register the model again."),
            evidence=f"{found[0]}: {artifacts.POINTER.decode()}",
            target="model",
        )


def remarks(served: Served) -> list[str]:
    """A sentence for each thing that may be wrong, before the environment is there."""
    served = contents_of(served)
    found = []
    model = served.model
    if model is not None:
        text = _("%(file)s of the model is a pointer of git-lfs, not the file itself.")
        found += [text % {"file": name} for name in artifacts.pointers(model_root(model)).others]
    if model is not None and _has_script(served):
        found += _relative_paths(served)
    return found[:MOST_REMARKS]


def _relative_paths(served: Served) -> list[str]:
    read = _read(served)
    if any(each.asks_model_dir for each in read):
        return []
    folder = root_of(served.code)
    text = _(
        "%(script)s, line %(line)s, opens '%(path)s', a relative path; the model is in the folder that the variable "
        "AZUREML_MODEL_DIR names, and the script never asks for it."
    )
    opened = [(each.name, line, path) for each in read for line, path in each.opened]
    missing = [(name, line, path) for name, line, path in opened if not _lies_in(folder, path)]
    return [text % {"script": name, "line": line, "path": path} for name, line, path in missing]


def _lies_in(folder: Path, path: str) -> bool:
    try:
        return ".." not in PurePosixPath(path).parts and (folder / path).exists()
    except (OSError, ValueError):  # a name no file system takes
        return False


@dataclass(frozen=True)
class Missing:
    """An import that nothing provides."""

    script: str
    found: Import

    @property
    def package(self) -> str:
        return PACKAGE_OF.get(self.found.module) or PACKAGE_OF.get(self.found.top) or self.found.top

    @property
    def evidence(self) -> str:
        return f"{self.script}, line {self.found.line}: import {self.found.module}"


def against(served: Served, runnable: Runnable, *, variables: dict[str, str]) -> list[str]:
    """Compare with the environment that was built; a sentence for each thing that may be wrong.

    Raises:
        Problem: "script-import", a module that is imported in any case is nowhere.
    """
    served = contents_of(served)
    if runnable.path is None:
        return []
    said = _saved_elsewhere(served, runnable.path)
    if not _has_script(served):
        return said[:MOST_REMARKS]
    lost = _missing(served, runnable, certain="PYTHONPATH" not in variables and not runnable.image)
    for each in lost:
        where = {"module": each.found.module, "package": each.package}
        if each.found.sure:
            raise Problem(
                "script-import",
                reason=_("Nothing in the environment or the code folder provides the module %(module)s.") % where,
                evidence=each.evidence,
                hint=_("Add %(package)s to the environment, or the module to the code folder.") % where,
                target=SCRIPT_FIELD,
            )
        text = _("%(evidence)s: the environment has no such module; add %(package)s if that line is reached.")
        said.append(text % (where | {"evidence": each.evidence}))
    return said[:MOST_REMARKS]


def _missing(served: Served, runnable: Runnable, *, certain: bool) -> list[Missing]:
    """What nothing provides; never sure without `certain`, or where the script changes where modules are sought."""
    names = _provided(runnable)
    if names is None:
        return []
    read = _read(served)
    certain = certain and not any(each.moves_path for each in read)
    folders = {root_of(served.code), (root_of(served.code) / served.scoring_script).parent}
    local = {each.name.partition(".")[0] for folder in folders for each in folder.iterdir()}
    known = names | local | OURS | sys.stdlib_module_names
    found: dict[str, Missing] = {}
    for source in read:
        for each in source.imports:
            if each.top not in known and not (each.top in found and found[each.top].found.sure):
                found[each.top] = Missing(source.name, each if certain else replace(each, sure=False))
    return sorted(found.values(), key=lambda each: not each.found.sure)


def _provided(runnable: Runnable) -> set[str] | None:
    """The names of the modules in an environment; None when it has more than can be seen from its folders."""
    folders = [*(runnable.path or Path("/nowhere")).glob("lib/python3*/site-packages")]
    folders += [runnable.overlay] if runnable.overlay is not None else []
    names: set[str] = set()
    for folder in folders:
        for each in folder.iterdir():
            if each.suffix == ".pth" and _leads_elsewhere(each):
                return None
            names.add(each.name.partition(".")[0])
            if len(names) > MOST_NAMES:
                return None
    return names if folders else None


def _text(file: Path, most: int) -> str | None:
    """Its beginning; None for what is no plain file: an image's programs may have left anything there."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return None
        with file.open("rb") as stream:
            return stream.read(most).decode("utf-8", "replace")
    except OSError:
        return None


def _leads_elsewhere(file: Path) -> bool:
    text = _text(file, PTH_BYTES)
    if text is None:
        return True
    lines = text.splitlines()
    return any(line.strip() and not line.startswith(("import ", "import\t", "#")) for line in lines)


def _saved_elsewhere(served: Served, environment: Path) -> list[str]:
    """Pickles of another scikit-learn than the one in the environment."""
    locked = LOCKED.search(_text(environment / "requirements.lock", LOCK_BYTES) or "")
    if locked is None or served.model is None:
        return []
    text = _(
        "%(file)s was saved with scikit-learn %(saved)s, and the environment has %(has)s: loading it may fail, or give "
        "other answers."
    )
    found = artifacts.sklearn_versions(storage.tree_path(served.model.tree_id)).items()
    minor = locked["version"].split(".")[:2]
    return [
        text % {"file": name, "saved": saved, "has": locked["version"]}
        for name, saved in found
        if saved.split(".")[:2] != minor
    ]
